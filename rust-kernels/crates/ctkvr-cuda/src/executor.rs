//! The device's executor: what the engine asks, and what goes to the device for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ctkvr_core::kv::pool::KvPool;
use ctkvr_core::retriever::HeadState;
use ctkvr_core::sequence::index_builder::IndexBuilder;
use ctkvr_core::sequence::lifecycle::{HeadMaker, HeadTask};
use ctkvr_core::sequence::store::Sequence;
use ctkvr_engine::{Batch, BatchOutput, Capabilities, Error, Executor, Result};
use ctkvr_kernels::Kernels;
use ctkvr_model::{Activation, Description, Model, ModelSpec, num_usable_threads};

use crate::Device;
use crate::head_cache::HeadCache;
use crate::host_layer::HostTeam;
use crate::kv_pool::{DeviceKvPool, PoolOptions};
use crate::lane::Lane;
use crate::launch::attend::{HEAD_DIMS, MAX_GROUP};
use crate::make_heads::{HeadMaking, Patience};
use crate::on_device::OnDevice;
use crate::placement::Placement;
use crate::step::{self, KeptDecodes};
use crate::weights::Weights;

/// Most rows of one batch.
const MAX_ROWS: usize = 1 << 12;

/// How the device computes.
#[derive(Debug, Clone, Copy, Default)]
pub struct CudaOptions {
    /// As the driver counts devices.
    pub device: usize,
    /// The most bytes that keys and values of all sequences may take on the device; `None` = as many as it has.
    pub kv_budget_bytes: Option<usize>,
    /// Threads that make indexes, and do the host's part of layers in host memory; 0 = all that this process may use.
    pub num_threads: usize,
    /// Hybrid layers, the last ones, at most all: their keys and values are in host memory. The device searches, and reads sinks, window and
    /// retrieval heads; the host scores what was found and attends to it.
    pub hybrid_layers: usize,
}

/// Computes steps on one device. Weights, pages, indexes of CTkvr and all of a step are there, and so is what of a build reads keys; sequences are
/// here.
pub struct CudaExecutor {
    on_device: OnDevice,
    decodes: KeptDecodes,
}

/// What a model has that only the CPU computes.
fn lacking(spec: &ModelSpec) -> Option<&'static str> {
    let Description { rotary, local, layer, .. } = &spec.description;
    [
        (local.is_some(), "layers that attend to a sliding window"),
        (rotary.unrotated_period.is_some(), "layers without rotary embedding"),
        (spec.rotary_dims < spec.head_dim, "heads of which only a part is rotated"),
        (layer.feed_forward.activation != Activation::Silu, "the GELU activation"),
    ]
    .into_iter()
    .find_map(|(is_lacking, feature)| is_lacking.then_some(feature))
}

impl CudaExecutor {
    /// Opens the device and brings the model's weights there. `progress` receives 0..1.
    ///
    /// # Errors
    /// `DeviceUnavailable` with the reason (no driver, no such device, no kernels in this build), `OutOfMemory`, `InvalidOption` for a model
    /// whose heads, or whose layers, have no kernels.
    pub fn load(model: Arc<Model>, options: CudaOptions, progress: &mut dyn FnMut(f32)) -> Result<Self> {
        let shape = model.spec().attention_shape();
        if !HEAD_DIMS.contains(&shape.head_dim) || shape.group_size() > MAX_GROUP {
            let expected = format!(
                "cpu for this model: a device has kernels for heads of {HEAD_DIMS:?} values, in groups of at most {MAX_GROUP}"
            );
            let actual = format!("heads of {} values in groups of {}", shape.head_dim, shape.group_size());
            return Err(Error::InvalidOption { option: "device".into(), expected, actual });
        }
        if let Some(feature) = lacking(model.spec()) {
            let expected = format!("cpu for this model: a device has no kernels for {feature}");
            return Err(Error::InvalidOption { option: "device".into(), expected, actual: model.spec().family.into() });
        }
        let device = Arc::new(Device::open(options.device).map_err(Error::from)?);
        let weights = Weights::load(&device, &model, progress)?;
        let placement = Placement::new(shape, options.hybrid_layers);
        let pool = PoolOptions { shape: shape.page_shape(), placement, device_budget_bytes: options.kv_budget_bytes };
        let pool = Arc::new(DeviceKvPool::new(Arc::clone(&device), pool));
        let num_lanes = if placement.has_hybrid_layers() { 2 } else { 1 };
        let lanes = (0..num_lanes).map(|_| Lane::new(&device, model.spec(), placement)).collect::<crate::Result<_>>()?;
        let num_threads = if options.num_threads == 0 { num_usable_threads() } else { options.num_threads };
        let builder = IndexBuilder { shape, kernels: Kernels::named("", shape.head_dim)?, num_threads };
        let team = placement.has_hybrid_layers().then(|| HostTeam::new(&builder)).transpose()?;
        let on_device = OnDevice {
            lanes,
            heads: HeadCache::default(),
            build_memory: Mutex::default(),
            weights,
            pool,
            device,
            model,
            builder,
            team,
        };
        Ok(Self { on_device, decodes: KeptDecodes::default() })
    }

    /// The device that it computes on.
    pub fn device(&self) -> &Device {
        &self.on_device.device
    }
}

impl HeadMaker for CudaExecutor {
    fn make_heads(
        &self,
        sequence: &Sequence,
        tasks: &[HeadTask],
        deadline: Option<Instant>,
        cancel: &AtomicBool,
    ) -> ctkvr_core::Result<Vec<HeadState>> {
        let OnDevice { device, pool, builder, build_memory, .. } = &self.on_device;
        let making = HeadMaking { device, pool, host: builder, memory: build_memory };
        making.make(sequence, tasks, Patience { deadline, cancel })
    }
}

impl Executor for CudaExecutor {
    fn capabilities(&self) -> Capabilities {
        let OnDevice { model, builder, .. } = &self.on_device;
        let vocab_size = model.spec().vocab_size;
        Capabilities { shape: builder.shape, vocab_size, max_rows: MAX_ROWS, num_threads: builder.num_threads }
    }

    fn arithmetic(&self) -> String {
        let (major, minor) = self.on_device.device.properties().capability;
        format!("cuda sm_{major}{minor}")
    }

    fn kv_pool(&self) -> Arc<dyn KvPool> {
        Arc::<DeviceKvPool>::clone(&self.on_device.pool)
    }

    fn forward(&mut self, batch: &mut Batch, output: &mut BatchOutput, cancel: &AtomicBool) -> Result<()> {
        let outcome = catch_unwind(AssertUnwindSafe(|| step::run(&mut self.on_device, &mut self.decodes, batch, output, cancel)));
        let outcome = outcome.unwrap_or_else(|_| Err(Error::Internal { what: "a step panicked".into() }));
        if outcome.is_err() {
            // What it was given still writes pages that the engine takes back.
            let _ = self.on_device.wait();
        }
        outcome
    }
}
