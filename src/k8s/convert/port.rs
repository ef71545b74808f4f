//! The ports of a rule: `{protocol, port, endPort}` -> [`PortMatch`].

use super::{
    names,
    reader::{Reader, Shape, cut, there},
};
use crate::{
    finding::place::Place,
    policy::model::{PortMatch, PortSpec, Protocol},
};
use serde_json::Value;

const PORT: Shape<3> = Shape {
    what: "an entry of ports",
    fields: ["protocol", "port", "endPort"],
    example: "an entry of ports: {protocol: TCP, port: 80}",
};

/// The text that a list of ports should have been.
pub(super) const EXAMPLE: &str = "a list:\nports:\n- {protocol: TCP, port: 80}";

/// One entry of ports; null is an empty one, which is every TCP port.
pub(super) fn read(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Option<PortMatch> {
    let every = PortMatch { protocol: Protocol::Tcp, port: PortSpec::ALL };
    if value.is_null() {
        return Some(every);
    }
    let Value::Object(_) = value else {
        let help = match value {
            Value::Number(number) => format!("write {{port: {number}}}"),
            Value::String(name) => format!("write {{port: {name}}}"),
            _ => format!("write {}", PORT.example),
        };
        reader.wrong_type(value, path, "a mapping", help);
        return None;
    };
    let [of, from, to] = reader.mapping(value, path, &PORT)?;
    let protocol = there(of).map_or(Some(Protocol::Tcp), |value| protocol(reader, value, &path.field("protocol")));
    let port = there(from).map(|value| port(reader, value, &path.field("port")));
    let end = there(to).map(|value| (value, reader.int32(value, &path.field("endPort"))));
    let port = match (port, end) {
        (None, None) => Some(every.port),
        (Some(port), None) => port,
        (Some(Some(PortSpec::Range(first, _))), Some((_, Some(end)))) => {
            range(reader, first, end, &path.field("endPort"))
        }
        (None, Some((end, _))) => {
            let message = format!("endPort {end} stands without port");
            reader.refuse(
                "end-port-without-port",
                &path.field("endPort"),
                message,
                "write the first port of the range too: port: 80",
            );
            None
        }
        (Some(Some(PortSpec::Named(name))), Some((end, _))) => {
            let message = format!("endPort {end} stands beside the port name {name}");
            reader.refuse(
                "end-port-with-name",
                &path.field("endPort"),
                message,
                "write port as a number, or leave endPort out",
            );
            None
        }
        (Some(_), Some(_)) => None,
    };
    Some(PortMatch { protocol: protocol?, port: port? })
}

fn protocol(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Option<Protocol> {
    let text = reader.string(value, path)?;
    let protocol = text.parse().ok();
    if protocol.is_none() {
        let help = match text.to_uppercase().parse::<Protocol>() {
            Ok(right) => format!("write {right}, in capitals"),
            Err(()) if text.to_uppercase().starts_with("ICMP") => {
                "a NetworkPolicy cannot name ICMP: a rule without ports lets every protocol pass".to_owned()
            }
            Err(()) => "write TCP, UDP or SCTP".to_owned(),
        };
        reader.refuse("invalid-protocol", path, format!("{} is no protocol of a NetworkPolicy", cut(text)), help);
    }
    protocol
}

fn port(reader: &mut Reader, value: &Value, path: &Place<'_>) -> Option<PortSpec> {
    if let Value::String(name) = value {
        let Some(why) = names::port_name(name) else { return Some(PortSpec::Named(name.as_str().into())) };
        let message = format!("{} is no name of a port", cut(name));
        let (rule, help) = match (name.parse::<u16>(), name.split_once('-')) {
            (Ok(number), _) => ("port-quoted", format!("write port: {number}, without quotes: in quotes it is a name")),
            (_, Some((first, last))) if first.parse::<u16>().is_ok() && last.parse::<u16>().is_ok() => {
                ("invalid-port-name", format!("a range is written port: {first} and endPort: {last}"))
            }
            _ => ("invalid-port-name", why),
        };
        reader.refuse(rule, path, message, help);
        return None;
    }
    let number = reader.int32(value, path)?;
    let port = number_of(number);
    if port.is_none() {
        let message = format!("port {number} does not exist: ports are 1 to 65535");
        let help = if number == 0 {
            "leave port out for every port of the protocol"
        } else {
            "write a number from 1 to 65535"
        };
        reader.refuse("port-range", path, message, help);
    }
    port.map(|port| PortSpec::Range(port, port))
}

fn range(reader: &mut Reader, first: u16, end: i32, path: &Place<'_>) -> Option<PortSpec> {
    match number_of(end) {
        Some(last) if last >= first => Some(PortSpec::Range(first, last)),
        Some(last) => {
            let message = format!("endPort {last} is below port {first}");
            reader.refuse("end-port-below-port", path, message, format!("write port: {last} and endPort: {first}"));
            None
        }
        None => {
            let message = format!("endPort {end} does not exist: ports are 1 to 65535");
            reader.refuse("end-port-range", path, message, "write a number from 1 to 65535");
            None
        }
    }
}

fn number_of(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
