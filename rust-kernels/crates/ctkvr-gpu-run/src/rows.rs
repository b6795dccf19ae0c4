//! The memory of a step's rows.

use ctkvr_cuda::launch::argmax::PARTS;
use ctkvr_cuda::launch::slot::RowPlace;
use ctkvr_cuda::{Device, DeviceBuffer, Span};
use ctkvr_kernels::activation_bytes;
use ctkvr_kernels::testing::Random;

use crate::Result;
use crate::shape::Shape;

/// Rows of `n` tokens, each where it is stored.
pub struct Rows {
    pub n: usize,
    /// Rows whose logits are wanted: the first ones.
    pub num_outputs: usize,
    pub hidden: DeviceBuffer<f32>,
    pub block: DeviceBuffer<f32>,
    pub normed: DeviceBuffer<u8>,
    /// Of each row queries, keys and values side by side.
    pub projected: DeviceBuffer<f32>,
    /// Queries, turned.
    pub queries: DeviceBuffer<f32>,
    pub attended: DeviceBuffer<f32>,
    pub attended_rounded: DeviceBuffer<u8>,
    /// Of each row gate, then up.
    pub gate_and_up: DeviceBuffer<f32>,
    pub gated: DeviceBuffer<u8>,
    pub cos: DeviceBuffer<f32>,
    pub sin: DeviceBuffer<f32>,
    pub places: DeviceBuffer<RowPlace>,
    pub logits: DeviceBuffer<f32>,
    pub best: DeviceBuffer<u64>,
    pub ids: DeviceBuffer<u32>,
    width: usize,
}

impl Rows {
    pub fn new(device: &Device, shape: &Shape, places: &[RowPlace], num_outputs: usize) -> Result<Self> {
        let (n, width, pairs) = (places.len(), shape.width, shape.head_dim / 2);
        let mut random = Random(n as u64);
        let angles = random.values(n * pairs, 3.0);
        let floats = |len: usize| DeviceBuffer::<f32>::zeroed(device, n * len);
        let bytes = |len: usize| DeviceBuffer::<u8>::zeroed(device, n * activation_bytes(len));
        Ok(Self {
            n,
            num_outputs,
            hidden: DeviceBuffer::from_slice(device, &random.values(n * width, 1.0))?,
            block: floats(width)?,
            normed: bytes(width)?,
            projected: floats(shape.q_len() + 2 * shape.kv_len())?,
            queries: floats(shape.q_len())?,
            attended: floats(shape.q_len())?,
            attended_rounded: bytes(shape.q_len())?,
            gate_and_up: floats(2 * shape.hidden)?,
            gated: bytes(shape.hidden)?,
            cos: DeviceBuffer::from_slice(device, &angles.iter().map(|x| x.cos()).collect::<Vec<f32>>())?,
            sin: DeviceBuffer::from_slice(device, &angles.iter().map(|x| x.sin()).collect::<Vec<f32>>())?,
            places: DeviceBuffer::from_slice(device, places)?,
            logits: DeviceBuffer::new(device, num_outputs * shape.vocab)?,
            best: DeviceBuffer::new(device, num_outputs * PARTS)?,
            ids: DeviceBuffer::new(device, num_outputs)?,
            width,
        })
    }

    /// The first `count` rows of rounded activations of the model's width.
    pub fn activations(&self, of: &DeviceBuffer<u8>, count: usize) -> Span<u8> {
        of.span().part(0..count * activation_bytes(self.width))
    }
}
