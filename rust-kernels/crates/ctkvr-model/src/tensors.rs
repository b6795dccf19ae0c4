//! The tensors of a model by name, shape and use, as its description names them: the one table that checking and loading share.

use std::ops::Range;

use crate::description::{Description, LayerSpec, LinearSpec, VectorSpec};

/// What the graph does with a tensor; decides where its bytes may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorUse {
    /// Rows are looked up.
    Rows,
    /// Multiplies activations.
    Product,
    /// Multiplied or added element by element, or frequency factors.
    Vector,
}

/// One tensor a model of some spec has or may have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorSpec {
    /// What the description calls it.
    pub name: String,
    /// Its name in the file.
    pub stored: String,
    /// As it is stored. Fastest dimension first.
    pub shape: [i64; 2],
    /// Of what is stored, the rows that are meant (of a bias its values); `None`: all.
    pub rows: Option<Range<usize>>,
    pub purpose: TensorUse,
    pub required: bool,
}

impl TensorSpec {
    pub fn is_matrix(&self) -> bool {
        self.purpose != TensorUse::Vector
    }
}

/// Every tensor a model of this spec must or may have.
pub(crate) fn expected_tensors(description: &Description, num_layers: usize) -> Vec<TensorSpec> {
    let Description { embedding, rotary, local: _, layer, output } = description;
    let mut tensors = Vec::new();
    tensors.extend(of_linear(&embedding.rows, TensorUse::Rows));
    tensors.push(of_vector(&output.norm));
    tensors.extend(of_linear(&output.product, TensorUse::Product).map(|tensor| match output.may_be_tied {
        // Absent when the embedding serves as output.
        true => TensorSpec { required: false, ..tensor },
        false => tensor,
    }));
    tensors.extend(
        rotary.factors.iter().chain(&rotary.other_factors).map(|factors| TensorSpec { required: false, ..of_vector(factors) }),
    );
    let of_layer = layer_tensors(layer);
    for layer in 0..num_layers {
        tensors.extend(of_layer.iter().map(|tensor| {
            let [name, stored] = [&tensor.name, &tensor.stored].map(|name| layer_tensor(layer, name));
            TensorSpec { name, stored, ..tensor.clone() }
        }));
    }
    tensors
}

/// The tensors of one layer, by their names in it.
fn layer_tensors(layer: &LayerSpec) -> Vec<TensorSpec> {
    let LayerSpec { attention, feed_forward, residual_scale: _ } = layer;
    let head_norms = attention.query_key_norms.iter().flat_map(|norms| [&norms.query, &norms.key]);
    let norms = [&attention.norm_before, &attention.norm_after, &feed_forward.norm_before, &feed_forward.norm_after];
    let products = [&attention.query, &attention.key, &attention.value, &attention.output];
    let products = products.into_iter().chain([&feed_forward.gate, &feed_forward.up, &feed_forward.down]);
    let vectors = norms.into_iter().flatten().chain(head_norms).map(of_vector);
    vectors.chain(products.flat_map(|product| of_linear(product, TensorUse::Product))).collect()
}

fn of_vector(vector: &VectorSpec) -> TensorSpec {
    let shape = [vector.len as i64, 1];
    let name: String = vector.name.into();
    TensorSpec { stored: name.clone(), name, shape, rows: None, purpose: TensorUse::Vector, required: true }
}

fn of_linear(linear: &LinearSpec, purpose: TensorUse) -> impl Iterator<Item = TensorSpec> {
    let num_rows = linear.part.map_or(linear.outputs, |part| part.all) as i64;
    let tensor = |which: &str, name: String, shape, purpose| TensorSpec {
        name,
        stored: format!("{}.{which}", linear.name),
        shape,
        rows: linear.part.map(|part| part.first..part.first + linear.outputs),
        purpose,
        required: which == "weight",
    };
    let weight = tensor("weight", linear.weight_name(), [linear.inputs as i64, num_rows], purpose);
    let bias = tensor("bias", linear.bias_name(), [num_rows, 1], TensorUse::Vector);
    std::iter::once(weight).chain(linear.may_have_bias.then_some(bias))
}

/// The name in a GGUF of a layer's tensor.
pub fn layer_tensor(layer: usize, name: &str) -> String {
    format!("blk.{layer}.{name}")
}
