//! A model's weights on the device, layer by layer, as its description orders them.

use ctkvr_model::{Description, LayerSpec, LinearSpec, Matrices, Model, NormSpan, RotaryTable, VectorSpec, layer_tensor};

use crate::joined::Joined;
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

pub(crate) struct Layer {
    pub attention_norm: Option<Vector>,
    /// Query, key and value.
    pub projections: Joined,
    pub query_key_norms: Option<QueryKeyNorms>,
    pub output: DeviceMatrix,
    pub attention_norm_after: Option<Vector>,
    pub feed_forward_norm: Option<Vector>,
    /// Gate and up.
    pub gate_and_up: Joined,
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

    fn joined(&self, index: usize, linears: &[&LinearSpec]) -> ctkvr_model::Result<Joined> {
        let all: Vec<HostMatrix> =
            linears.iter().map(|linear| self.host_linear(index, linear)).collect::<ctkvr_model::Result<_>>()?;
        Ok(Joined::new(self.device, &all)?)
    }

    fn layer(&self, index: usize, spec: &LayerSpec) -> ctkvr_model::Result<Layer> {
        let LayerSpec { attention, feed_forward, .. } = spec;
        let norms = attention.query_key_norms.as_ref().map(|norms| -> ctkvr_model::Result<_> {
            let [query, key] = [norms.query, norms.key].map(|norm| self.vector(&layer_tensor(index, norm.name)));
            Ok(QueryKeyNorms { span: norms.span, query: query?, key: key? })
        });
        Ok(Layer {
            attention_norm: self.norm(index, &attention.norm_before)?,
            projections: self.joined(index, &[&attention.query, &attention.key, &attention.value])?,
            query_key_norms: norms.transpose()?,
            output: self.linear(index, &attention.output)?,
            attention_norm_after: self.norm(index, &attention.norm_after)?,
            feed_forward_norm: self.norm(index, &feed_forward.norm_before)?,
            gate_and_up: self.joined(index, &[&feed_forward.gate, &feed_forward.up])?,
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
            rotary: RotaryTable::new(&spec.rope, spec.rotary_dims, factors.as_deref()),
            query_factor: layer.attention.score_scale.map_or(1.0, |scale| scale * (spec.head_dim as f32).sqrt()),
            matrices,
        })
    }
}
