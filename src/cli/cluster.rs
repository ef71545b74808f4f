//! Which cluster a question is about: manifests, or a live one. The arguments that `matrix` and `explain` share.

use crate::{
    k8s::{
        convert::Settings,
        manifests,
        watch::{self, Access, Kind},
    },
    policy::{
        baseline::{Baseline, with_name_label},
        cluster::Cluster,
        model::{Labels, Name, Namespace},
    },
    telemetry,
};
use anyhow::Context;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Which cluster a question is about.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// A file or directory of manifests; more than one may be given
    #[arg(short = 'f', long = "file", value_name = "PATH", required_unless_present = "kubeconfig", num_args = 1..)]
    files: Vec<PathBuf>,
    /// A kubeconfig whose current context names a live cluster, instead of manifests
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    kubeconfig: Option<PathBuf>,
    /// What fences namespaces that have no label ringfence.dev/baseline: deny-all, deny-ingress or off
    #[arg(long, value_name = "BASELINE", default_value = "off")]
    baseline: Baseline,
}

impl Which {
    /// The cluster.
    pub(super) fn read(self) -> anyhow::Result<Cluster> {
        let Which { files, kubeconfig, baseline } = self;
        let cluster = match kubeconfig {
            Some(file) => live(&file, &Kind::ENFORCING)?,
            None => written(&files)?,
        };
        Ok(Cluster { baseline, ..cluster })
    }
}

/// A live cluster as it is now. Policies with mistakes are named in the log.
pub(super) fn live(kubeconfig: &Path, kinds: &[Kind]) -> anyhow::Result<Cluster> {
    telemetry::init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start what speaks to the API server")?;
    Ok(runtime.block_on(watch::once(&Access::Kubeconfig(kubeconfig.to_owned()), kinds))?)
}

/// Manifests as a cluster, pod templates included. Policies with mistakes are named on stderr. Repositories rarely hold the
/// Namespaces of what they hold: those that no file has are taken as an API server makes them, and named, too.
fn written(files: &[PathBuf]) -> anyhow::Result<Cluster> {
    let settings = Settings { templates: true, ..Settings::default() };
    let (mut cluster, findings) = manifests::read(files, &settings).whole()?;
    for finding in &findings {
        eprintln!("ringfence: taken as closed: {finding}");
    }
    let missing: BTreeSet<Name> = cluster
        .pods
        .keys()
        .map(|key| &key.namespace)
        .filter(|name| !cluster.namespaces.contains_key(*name))
        .cloned()
        .collect();
    if !missing.is_empty() {
        let names = missing.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
        eprintln!("ringfence: no file has the Namespace of some pods ({names}): taken to have no labels but its name");
    }
    for name in missing {
        let labels = with_name_label(&name, Labels::default());
        cluster.namespaces.insert(name, Namespace { labels, ..Namespace::default() });
    }
    Ok(cluster)
}
