//! One pass of pictures through the network: a thread reads and resizes, this one computes.

use crate::Network;
use crate::pictures::{Batch, Pictures};
use anyhow::Result;
use models::inception::Features;
use models::inception::resize::{Pictures as Raw, prepare};
use stage::Context;
use std::sync::mpsc::sync_channel;
use tch::{Device, Tensor};

/// Batches that wait between reading and computing.
const AHEAD: usize = 2;

/// Gives every batch with its features, on the CPU, in order.
///
/// # Errors
/// Those of reading the pictures, of the network and of `give`.
pub(crate) fn pass(
    network: &Network,
    pictures: &Pictures,
    side: Option<usize>,
    context: &Context,
    unit: &str,
    give: &mut dyn FnMut(&Batch, Features) -> Result<()>,
) -> Result<()> {
    let total = pictures.count();
    context.progress(0, total, unit);
    let (send, receive) = sync_channel::<(Batch, Tensor)>(AHEAD);
    let (batch_size, resize, threads) = (network.batch, network.resize, network.threads);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            pictures.batches(side, batch_size, &mut |batch| {
                let picture = Raw { bytes: &batch.bytes, size: batch.size };
                let prepared = prepare(&picture, resize, threads)?;
                // A closed channel means that the other side has failed and says why.
                send.send((batch, prepared)).map_err(|_| anyhow::anyhow!("stopped early"))
            })
        });
        let mut computed = Ok(());
        for (batch, prepared) in receive {
            computed = (|| {
                context.check_stop()?;
                let features = network.inception.features(&prepared)?;
                give(&batch, on_cpu(features)?)?;
                context.progress(batch.first + batch.count, total, unit);
                Ok(())
            })();
            if computed.is_err() {
                break;
            }
        }
        let read = reader.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the reader stopped by a fault")));
        computed.and(read)
    })
}

fn on_cpu(features: Features) -> Result<Features> {
    let cpu = |t: &Tensor| t.f_to_device(Device::Cpu);
    Ok(Features {
        pool: cpu(&features.pool)?,
        spatial: cpu(&features.spatial)?,
        logits: cpu(&features.logits)?,
    })
}
