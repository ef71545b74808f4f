//! Whether an agent that is stopped takes enforcement with it.
//!
//! A signal looks the same when an agent is updated, when its node is drained and when Ringfence is uninstalled. What tells
//! them apart is its DaemonSet. In doubt enforcement stays: whoever can cut a node off must not open it.

use crate::k8s::watch::Standing;
use std::time::Duration;
use tokio::sync::watch::Receiver;

/// How long the news of a deletion may be on its way when the signal comes.
const NEWS: Duration = Duration::from_millis(500);
/// How soon another DaemonSet of the name comes when one is replaced.
const REPLACED: Duration = Duration::from_secs(3);

/// Whether the DaemonSet has gone, and no other has taken its place. Takes 0.5 s, or 3 s more if it has gone.
pub async fn is_for_good(standing: &mut Receiver<Standing>) -> bool {
    if *standing.borrow() == Standing::Unknown {
        return false;
    }
    let gone = matches!(tokio::time::timeout(NEWS, standing.wait_for(|now| *now == Standing::Gone)).await, Ok(Ok(_)));
    if !gone {
        return false;
    }
    // Nobody who could tell of another one is no sign of one.
    !matches!(tokio::time::timeout(REPLACED, standing.wait_for(|now| *now == Standing::There)).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    /// What is known when the signal comes, and what is heard so many milliseconds later.
    fn decides(known: Standing, later: Option<(u64, Standing)>) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (teller, mut standing) = watch::channel(known);
            let telling = tokio::spawn(async move {
                if let Some((after, what)) = later {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    teller.send_replace(what);
                }
                std::future::pending::<()>().await;
                drop(teller);
            });
            let decided = is_for_good(&mut standing).await;
            telling.abort();
            decided
        })
    }

    #[test]
    fn it_stays_while_the_daemonset_is_there_or_was_never_seen() {
        assert!(!decides(Standing::Unknown, None));
        assert!(!decides(Standing::There, None));
        assert!(!decides(Standing::There, Some((1_500, Standing::Gone))), "too late to be about this signal");
    }

    #[test]
    fn it_goes_with_the_daemonset_also_when_the_news_comes_behind_the_signal() {
        assert!(decides(Standing::Gone, None));
        assert!(decides(Standing::There, Some((100, Standing::Gone))));
    }

    #[test]
    fn it_stays_for_a_daemonset_that_takes_the_place() {
        assert!(!decides(Standing::Gone, Some((500, Standing::There))));
    }
}
