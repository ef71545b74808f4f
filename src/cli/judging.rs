//! How the webhook judges: the arguments, as a catalogue and manners.

use crate::{
    admission::Manners,
    catalogue::{Catalogue, Version, levels::Setting},
};

/// How objects are judged.
#[derive(Debug, Clone, clap::Args)]
pub struct Judging {
    /// How bad a rule is: deny, warn, hint or off; may be given more than once (`ringfence check --explain all` lists the rules)
    #[arg(long = "rule", value_name = "RULE=LEVEL")]
    rules: Vec<Setting>,
    /// The version of the API server: before 1.36 it takes CIDRs that can be read in two ways
    #[arg(long, value_name = "1.NN", default_value_t)]
    kubernetes: Version,
    /// Drop NET_RAW, in namespaces with a baseline, from containers that do not ask for it
    #[arg(long)]
    drop_net_raw: bool,
    /// A user or group who may take a running pod out of every policy by its labels; may be given more than once
    #[arg(long, value_name = "USER|GROUP")]
    may_relabel: Vec<String>,
}

impl Judging {
    /// What is judged, and what is done besides.
    pub(super) fn read(self) -> (Catalogue, Manners) {
        let Judging { rules, kubernetes, drop_net_raw, may_relabel } = self;
        let catalogue = Catalogue { levels: rules.into_iter().collect(), kubernetes };
        (catalogue, Manners { drop_net_raw, may_relabel: may_relabel.into_iter().collect() })
    }
}
