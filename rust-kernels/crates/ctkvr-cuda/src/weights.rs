//! A model's weights on the device, layer by layer, as its description orders them.

use ctkvr_model::{Description, LayerSpec, LinearSpec, Matrices, Model, NormSpan, RotaryTable, VectorSpec, layer_tensor};

use crate::matrix::{DeviceMatrix, HostMatrix};
use crate::{Device, DeviceBuffer};

/// f32 `[width]`.
pub(crate) type Vector = DeviceBuffer<f32>;

/// Norms of queries and keys before they are turned.
pub(crate) struct QueryKeyNorms {
    pub span: NormSpan,
    pub query: Vector,
    pub key: Vector,
}

/// Gate and up of the feed-forward, which take the same rows.
pub(crate) enum GateAndUp {
    Joined(DeviceMatrix),
    Apart([DeviceMatrix; 2]),
}

impl GateAndUp {
    pub fn matrices(&self) -> &[DeviceMatrix] {
        match self {
            Self::Joined(both) => std::slice::from_ref(both),
            Self::Apart(apart) => apart,
        }
    }
}

pub(crate) struct Layer {
    pub attention_norm: Option<Vector>,
    pub query: DeviceMatrix,
    pub key: DeviceMatrix,
    pub value: DeviceMatrix,
    pub query_key_norms: Option<QueryKeyNorms>,
    pub output: DeviceMatrix,
    pub attention_norm_after: Option<Vector>,
    pub feed_forward_norm: Option<Vector>,
    pub gate_and_up: GateAndUp,
    pub down: DeviceMatrix,
    pub feed_forward_norm_after: Option<Vector>,
}

/// Everything that a step reads of the model. The embedding stays in the file: a step needs a row for each token.
pub(crate) struct Weights {
    pub matrices: Matrices,
    /// The embedding's name there.
    pub embedding: String,
    pub layers: Vec<Layer>,
    pub output_norm: Vector,
    pub output: DeviceMatrix,
    pub rotary: RotaryTable,
    /// What turned queries are multiplied by, so that attention's 1 / sqrt(head_dim) becomes the model's factor.
    pub query_factor: f32,
}

/// Brings weights to the device by name.
struct Loader<'a> {
    device: &'a Device,
    model: &'a Model,
    matrices: &'a Matrices,
}

impl Loader<'_> {
    fn vector(&self, name: &str) -> ctkvr_model::Result<Vector> {
        let values = self.matrices.get(self.model, name)?.row(0);
        Ok(DeviceBuffer::from_slice(self.device, &values)?)
    }

    fn norm(&self, index: usize, norm: &Option<VectorSpec>) -> ctkvr_model::Result<Option<Vector>> {
        norm.as_ref().map(|norm| self.vector(&layer_tensor(index, norm.name))).transpose()
    }

    fn host_matrix(&self, weight: &str, bias: &str) -> ctkvr_model::Result<HostMatrix<'_>> {
        let matrix = self.matrices.get(self.model, weight)?;
        Ok(HostMatrix { matrix, bias: self.matrices.find(self.model, bias) })
    }

    fn host_linear(&self, index: usize, linear: &LinearSpec) -> ctkvr_model::Result<HostMatrix<'_>> {
        self.host_matrix(&layer_tensor(index, &linear.weight_name()), &layer_tensor(index, &linear.bias_name()))
    }

    fn linear(&self, index: usize, linear: &LinearSpec) -> ctkvr_model::Result<DeviceMatrix> {
        Ok(DeviceMatrix::new(self.device, &self.host_linear(index, linear)?)?)
    }

    fn gate_and_up(&self, index: usize, spec: &LayerSpec) -> ctkvr_model::Result<GateAndUp> {
        let both = [self.host_linear(index, &spec.feed_forward.gate)?, self.host_linear(index, &spec.feed_forward.up)?];
        if let Some(joined) = DeviceMatrix::joined(self.device, &both)? {
            return Ok(GateAndUp::Joined(joined));
        }
        let [gate, up] = both.each_ref().map(|of| DeviceMatrix::new(self.device, of));
        Ok(GateAndUp::Apart([gate?, up?]))
    }

    fn layer(&self, index: usize, spec: &LayerSpec) -> ctkvr_model::Result<Layer> {
        let LayerSpec { attention, feed_forward, .. } = spec;
        let norms = attention.query_key_norms.as_ref().map(|norms| -> ctkvr_model::Result<_> {
            let [query, key] = [norms.query, norms.key].map(|norm| self.vector(&layer_tensor(index, norm.name)));
            Ok(QueryKeyNorms { span: norms.span, query: query?, key: key? })
        });
        Ok(Layer {
            attention_norm: self.norm(index, &attention.norm_before)?,
            query: self.linear(index, &attention.query)?,
            key: self.linear(index, &attention.key)?,
            value: self.linear(index, &attention.value)?,
            query_key_norms: norms.transpose()?,
            output: self.linear(index, &attention.output)?,
            attention_norm_after: self.norm(index, &attention.norm_after)?,
            feed_forward_norm: self.norm(index, &feed_forward.norm_before)?,
            gate_and_up: self.gate_and_up(index, spec)?,
            down: self.linear(index, &feed_forward.down)?,
            feed_forward_norm_after: self.norm(index, &feed_forward.norm_after)?,
        })
    }
}

impl Weights {
    /// `progress` receives 0..1.
    ///
    /// # Errors
    /// `OutOfMemory` when the device has no room for them; `DeviceLost`.
    pub fn load(device: &Device, model: &Model, progress: &mut dyn FnMut(f32)) -> ctkvr_model::Result<Self> {
        let (spec, matrices) = (model.spec(), Matrices::of(model));
        let Description { embedding, rotary, layer, output, .. } = &spec.description;
        let factors = rotary.factors.and_then(|factors| matrices.find(model, factors.name)).map(|factors| factors.row(0));
        let loader = Loader { device, model, matrices: &matrices };
        let mut layers = Vec::with_capacity(spec.num_layers);
        for index in 0..spec.num_layers {
            layers.push(loader.layer(index, layer)?);
            progress((index + 1) as f32 / (spec.num_layers + 1) as f32);
        }
        let output_norm = loader.vector(output.norm.name)?;
        let product = loader.host_matrix(&output.product.weight_name(), &output.product.bias_name())?;
        let output = DeviceMatrix::new(device, &product)?;
        device.compute().wait()?;
        progress(1.0);
        Ok(Self {
            embedding: embedding.rows.weight_name(),
            layers,
            output_norm,
            output,
            rotary: RotaryTable::new(&spec.rope, spec.head_dim, factors.as_deref()),
            query_factor: layer.attention.score_scale.map_or(1.0, |scale| scale * (spec.head_dim as f32).sqrt()),
            matrices,
        })
    }
}
