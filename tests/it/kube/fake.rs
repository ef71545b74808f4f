//! An API server that does what it is told: lists in pages, watches, bookmarks, and everything that goes wrong.
//!
//! It speaks HTTP on a socket, so that the real client is tested with it, also one in another process. What it holds
//! outlives it: it can go away and come back at the same address.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Request, Response},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};

pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const PODS: &str = "/api/v1/pods";
/// Of the one namespace that has some here.
pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/ringfence/configmaps";
pub(crate) const POLICIES: &str = "/apis/networking.k8s.io/v1/networkpolicies";
/// Of the one namespace in which they are asked for.
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices";
pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
pub(crate) const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
pub(crate) const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
/// Of the one namespace that has some here, as are ConfigMaps.
pub(crate) const SECRETS: &str = "/api/v1/namespaces/ringfence/secrets";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/ringfence/leases";
/// Whose objects are looked up and written by name.
const BY_NAME: [&str; 8] = [NODES, CONFIG_MAPS, POLICIES, MUTATING, VALIDATING, ROLES, SECRETS, LEASES];

/// What goes wrong with the next request that it is meant for.
#[derive(Clone)]
pub(crate) enum Fault {
    /// An HTTP status, and seconds for Retry-After.
    Status(u16, &'static str, Option<u64>),
    /// So long an answer takes.
    Slow(Duration),
    /// The first line of a watch ends in the middle, and the connection with it.
    Cut,
    /// A watch is accepted and says that it is too old.
    Gone,
    /// A watch is accepted, says this line, and ends.
    Line(&'static str),
}

#[derive(Default)]
struct Held {
    version: u64,
    minor: Option<&'static str>,
    /// By path, namespace and name.
    objects: BTreeMap<(String, String, String), Value>,
    /// What happened: version, path, line.
    log: Vec<(u64, String, String)>,
    /// What is older is forgotten.
    oldest: u64,
    /// By verb and path.
    faults: BTreeMap<(&'static str, &'static str), VecDeque<Fault>>,
    /// Faults that stay.
    always: BTreeMap<(&'static str, &'static str), Fault>,
    requests: Vec<(Instant, String)>,
    posted: Vec<Value>,
    /// The version that the watches of a path have been told.
    sent: BTreeMap<String, u64>,
}

impl Held {
    fn put(&mut self, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let key = key(&object);
        let what = if self.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        self.log.push((self.version, key.0.clone(), line(what, &object)));
        self.objects.insert(key, object);
    }

    fn remove(&mut self, key: &(String, String, String)) -> Option<()> {
        let mut object = self.objects.remove(key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.log.push((self.version, key.0.clone(), line("DELETED", &object)));
        Some(())
    }
}

#[derive(Clone)]
struct Shared {
    held: Arc<Mutex<Held>>,
    /// Counts what happened, so that watches look.
    news: watch::Sender<u64>,
    /// Counts how often all watches were hung up.
    hung_up: watch::Sender<u64>,
}

pub(crate) struct Fake {
    shared: Shared,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// On a socket that may be in another network namespace.
    pub(crate) fn on(listener: TcpListener) -> Self {
        let held = Arc::new(Mutex::new(Held { version: 100, ..Held::default() }));
        let shared = Shared { held, news: watch::Sender::new(0), hung_up: watch::Sender::new(0) };
        let address = listener.local_addr().unwrap();
        let mut fake = Fake { shared, address, runtime: None };
        fake.back(listener);
        fake
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nobody listens any more, and every connection is closed.
    pub(crate) fn away(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// It is there again.
    pub(crate) fn back(&mut self, listener: TcpListener) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        listener.set_nonblocking(true).unwrap();
        let router = Router::new().fallback(answer).with_state(self.shared.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    fn held<T>(&self, with: impl FnOnce(&mut Held) -> T) -> T {
        let result = with(&mut self.shared.held.lock().unwrap());
        self.shared.news.send_modify(|count| *count += 1);
        result
    }

    /// Creates or changes an object.
    pub(crate) fn put(&self, object: Value) {
        self.held(|held| held.put(object));
    }

    pub(crate) fn remove(&self, path: &str, namespace: &str, name: &str) {
        self.held(|held| held.remove(&(path.into(), namespace.into(), name.into()))).unwrap();
    }

    /// Tells the watches of a kind where they are.
    pub(crate) fn bookmark(&self, path: &str) -> u64 {
        self.held(|held| {
            held.version += 1;
            let object = json!({"kind": "X", "metadata": {"resourceVersion": held.version.to_string()}});
            held.log.push((held.version, path.to_owned(), line("BOOKMARK", &object)));
            held.version
        })
    }

    /// Waits until the watches of a kind have been told everything until a version.
    pub(crate) fn sent(&self, path: &str, version: u64) {
        let begun = Instant::now();
        while self.held(|held| held.sent.get(path).is_none_or(|sent| *sent < version)) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{path} is not told {version}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Forgets what happened until now.
    pub(crate) fn compact(&self) {
        self.held(|held| {
            held.version += 1;
            held.oldest = held.version;
            held.log.clear();
        });
    }

    /// Ends every watch in order.
    pub(crate) fn hang_up(&self) {
        self.shared.hung_up.send_modify(|count| *count += 1);
    }

    pub(crate) fn fault(&self, verb: &'static str, path: &'static str, fault: Fault) {
        self.held(|held| held.faults.entry((verb, path)).or_default().push_back(fault));
    }

    pub(crate) fn always(&self, verb: &'static str, path: &'static str, fault: Option<Fault>) {
        self.held(|held| match fault {
            Some(fault) => drop(held.always.insert((verb, path), fault)),
            None => drop(held.always.remove(&(verb, path))),
        });
    }

    pub(crate) fn minor(&self, minor: &'static str) {
        self.held(|held| held.minor = Some(minor));
    }

    /// What is there of a kind.
    pub(crate) fn objects(&self, path: &str) -> Vec<Value> {
        self.held(|held| {
            held.objects.iter().filter(|(key, _)| key.0 == path).map(|(_, object)| object.clone()).collect()
        })
    }

    /// The requests that contain a text, and when they came.
    pub(crate) fn requests(&self, with: &str) -> Vec<(Instant, String)> {
        self.held(|held| held.requests.iter().filter(|(_, request)| request.contains(with)).cloned().collect())
    }

    /// What was posted.
    pub(crate) fn posted(&self) -> Vec<Value> {
        self.held(|held| held.posted.clone())
    }

    /// A kubeconfig for it, in a directory.
    pub(crate) fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let file = directory.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\nclusters: [{{name: fake, cluster: {{server: \
             'http://{}'}}}}]\ncontexts: [{{name: fake, context: {{cluster: fake, user: fake}}}}]\nusers: [{{name: fake, \
             user: {{token: secret}}}}]\n",
            self.address
        );
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.away();
    }
}

/// As Go writes it: the type first.
fn line(what: &str, object: &Value) -> String {
    format!("{{\"type\":\"{what}\",\"object\":{object}}}\n")
}

fn key(object: &Value) -> (String, String, String) {
    let path = match object["kind"].as_str().unwrap() {
        "Namespace" => NAMESPACES,
        "Node" => NODES,
        "Pod" => PODS,
        "NetworkPolicy" => POLICIES,
        "ConfigMap" => CONFIG_MAPS,
        "EndpointSlice" => SLICES,
        "Service" => SERVICES,
        "MutatingWebhookConfiguration" => MUTATING,
        "ValidatingWebhookConfiguration" => VALIDATING,
        "ClusterRole" => ROLES,
        "Secret" => SECRETS,
        "Lease" => LEASES,
        other => panic!("{other}"),
    };
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (path.to_owned(), text("namespace"), text("name"))
}

async fn answer(State(shared): State<Shared>, request: Request<Body>) -> Response<Body> {
    let uri = request.uri().clone();
    let query: BTreeMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%3A", ":").replace("%2F", "/").replace("%3D", "=")))
        .collect();
    let watches = query.contains_key("watch");
    let verb = match request.method().as_str() {
        "PATCH" => "patch",
        "PUT" => "update",
        "DELETE" => "delete",
        _ if watches => "watch",
        _ => "list",
    };
    let path = uri.path().to_owned();
    let fault = {
        let mut held = shared.held.lock().unwrap();
        held.requests.push((Instant::now(), uri.to_string()));
        let next = held.faults.iter_mut().find(|((v, p), _)| (*v, *p) == (verb, &path)).map(|(_, faults)| faults);
        let next = next.and_then(VecDeque::pop_front);
        let always = held.always.iter().find(|((v, p), _)| (*v, *p) == (verb, &path)).map(|(_, fault)| fault.clone());
        next.or(always)
    };
    match &fault {
        Some(Fault::Status(status, message, after)) => return status_answer(*status, message, *after),
        Some(Fault::Slow(time)) => tokio::time::sleep(*time).await,
        _ => {}
    }
    // One object of those that are looked up and written by name.
    let one = path.rsplit_once('/').map(|(collection, name)| (held_in(collection), name));
    if let Some(((collection, namespace), name)) = one.filter(|((collection, _), _)| BY_NAME.contains(collection)) {
        let strategic =
            request.headers().get("content-type").is_some_and(|kind| kind == "application/strategic-merge-patch+json");
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let mut held = shared.held.lock().unwrap();
        let is_it = |key: &&(String, String, String)| {
            key.0 == collection && key.2 == name && namespace.is_none_or(|namespace| key.1 == namespace)
        };
        let key = held.objects.keys().find(is_it).cloned();
        let found = key.as_ref().map(|key| held.objects[key].clone());
        if let ("patch" | "update", Ok(mut written)) = (verb, serde_json::from_slice::<Value>(&body)) {
            let version = |object: &Value| object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
            if version(&written).is_some_and(|named| Some(named) != found.as_ref().and_then(version)) {
                return status_answer(409, "the object has been modified", None);
            }
            if let (true, Some(found)) = (strategic, &found) {
                written = merged(found, &written);
            }
            held.put(written);
        }
        if let ("delete", Some(key)) = (verb, &key) {
            held.remove(key);
        }
        let key = held.objects.keys().find(is_it);
        let answer = match key.map(|key| &held.objects[key]).or(found.as_ref()) {
            Some(object) => json_answer(object),
            None => status_answer(404, "not found", None),
        };
        drop(held);
        shared.news.send_modify(|count| *count += 1);
        return answer;
    }
    if request.method() == "POST" {
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let object: Value = serde_json::from_slice(&body).unwrap();
        shared.held.lock().unwrap().posted.push(object.clone());
        return json_answer(&object);
    }
    match path.as_str() {
        "/version" => {
            let minor = shared.held.lock().unwrap().minor.unwrap_or("36");
            json_answer(&json!({"major": "1", "minor": minor, "gitVersion": format!("v1.{minor}.0")}))
        }
        _ if watches => watch_answer(shared, path, &query, fault),
        _ => list_answer(&shared, &path, &query),
    }
}

/// Where the objects of a collection are held, and of which namespace they are if others are held there, too.
fn held_in(collection: &str) -> (&str, Option<&str>) {
    let (version, plural) = POLICIES.rsplit_once('/').unwrap();
    let namespace =
        collection.strip_prefix(version).and_then(|rest| rest.strip_prefix("/namespaces/")?.split_once('/'));
    match namespace {
        Some((namespace, of)) if of == plural => (POLICIES, Some(namespace)),
        _ => (collection, None),
    }
}

/// A strategic merge: fields one by one, items of lists by their names.
fn merged(object: &Value, patch: &Value) -> Value {
    match (object, patch) {
        (Value::Object(fields), Value::Object(changes)) => {
            let mut fields = fields.clone();
            for (name, change) in changes {
                let found = fields.get(name).unwrap_or(&Value::Null);
                fields.insert(name.clone(), merged(found, change));
            }
            fields.into()
        }
        (Value::Array(items), Value::Array(changes)) => {
            let item = |item: &Value| match changes.iter().find(|change| change["name"] == item["name"]) {
                Some(change) => merged(item, change),
                None => item.clone(),
            };
            items.iter().map(item).collect()
        }
        _ => patch.clone(),
    }
}

fn json_answer(value: &Value) -> Response<Body> {
    Response::builder().header("content-type", "application/json").body(value.to_string().into()).unwrap()
}

fn status_answer(status: u16, message: &str, after: Option<u64>) -> Response<Body> {
    let mut answer = Response::builder().status(status);
    if let Some(seconds) = after {
        answer = answer.header("retry-after", seconds);
    }
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status});
    answer.body(body.to_string().into()).unwrap()
}

fn list_answer(shared: &Shared, path: &str, query: &BTreeMap<String, String>) -> Response<Body> {
    let held = shared.held.lock().unwrap();
    let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    // Of a version and of the last key.
    let (version, last) = match query.get("continue").and_then(|token| token.split_once(':')) {
        Some((version, last)) => (version.parse().unwrap(), last.split_once('/')),
        None => (held.version, None),
    };
    if version < held.oldest {
        return status_answer(410, "The provided continue parameter is too old", None);
    }
    let after = |(_, namespace, name): &&(String, String, String)| {
        last.is_none_or(|last| (namespace.as_str(), name.as_str()) > last)
    };
    let keys: Vec<_> = held.objects.keys().filter(|key| key.0 == path).filter(after).collect();
    let (page, more) = keys.split_at(limit.min(keys.len()));
    let items: Vec<Value> = page
        .iter()
        .map(|key| {
            // Items of a list do not say their kind.
            let mut item = held.objects[*key].clone();
            let fields = item.as_object_mut().unwrap();
            fields.remove("kind");
            fields.remove("apiVersion");
            item
        })
        .collect();
    let token = match (page.last(), more.is_empty()) {
        (Some(last), false) => format!("{version}:{}/{}", last.1, last.2),
        _ => String::new(),
    };
    let metadata = json!({"resourceVersion": version.to_string(), "continue": token});
    json_answer(&json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": metadata}))
}

fn watch_answer(
    shared: Shared,
    path: String,
    query: &BTreeMap<String, String>,
    fault: Option<Fault>,
) -> Response<Body> {
    let mut version: u64 = query["resourceVersion"].parse().unwrap();
    if version < shared.held.lock().unwrap().oldest {
        return status_answer(410, "too old resource version", None);
    }
    let (sender, receiver) = mpsc::channel(16);
    let (mut news, mut hung_up) = (shared.news.subscribe(), shared.hung_up.subscribe());
    tokio::spawn(async move {
        match fault {
            Some(Fault::Gone) => {
                let status = json!({"kind": "Status", "code": 410, "message": "too old resource version"});
                let _ = sender.send(Ok(line("ERROR", &status).into())).await;
                return;
            }
            Some(Fault::Line(text)) => {
                let _ = sender.send(Ok(text.into())).await;
                return;
            }
            _ => {}
        }
        loop {
            let lines: Vec<_> = {
                let held = shared.held.lock().unwrap();
                held.log.iter().filter(|(at, of, _)| *at > version && *of == path).cloned().collect()
            };
            for (at, _, line) in lines {
                if matches!(fault, Some(Fault::Cut)) {
                    let _ = sender.send(Ok(line[..line.len() / 2].to_owned().into())).await;
                    // So that the half is on its way before the connection breaks.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    let _ = sender.send(Err(io::Error::other("cut"))).await;
                    return;
                }
                // In two pieces: a line is a line, not a piece.
                let (one, two) = line.split_at(line.len() / 3);
                for piece in [one, two] {
                    if sender.send(Ok(piece.to_owned().into())).await.is_err() {
                        return;
                    }
                }
                version = at;
                shared.held.lock().unwrap().sent.insert(path.clone(), at);
            }
            tokio::select! {
                // In this order: what comes after the end of a watch is not told by it any more.
                biased;
                _ = hung_up.changed() => return,
                () = sender.closed() => return,
                _ = news.changed() => {}
            }
        }
    });
    Response::new(Body::new(Lines(receiver)))
}

/// A body that comes in pieces.
struct Lines(mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(http_body::Frame::data)))
    }
}
