//! Graphs kept between steps: a decode step runs the same graph for every token.

use std::sync::Arc;

use crate::attention_hook::AttentionHook;
use crate::error::Result;
use crate::graph::{Graph, GraphShape};
use crate::spec::ModelSpec;
use crate::weights::Weights;

/// Steps of one to a few sequences, and one long chunk, alternate at most.
const MAX_GRAPHS: usize = 6;
/// Graphs over more rows hold large buffers: only the last one used is kept.
const LARGE_ROWS: usize = 64;

/// Least recently used first.
#[derive(Default)]
pub(crate) struct GraphCache {
    graphs: Vec<Graph>,
}

impl GraphCache {
    /// The graph of this shape, built when it is not here.
    pub fn get(&mut self, spec: &ModelSpec, weights: &Weights, hook: &Arc<AttentionHook>, shape: GraphShape) -> Result<&mut Graph> {
        if let Some(found) = self.graphs.iter().position(|graph| graph.shape() == shape) {
            self.graphs[found..].rotate_left(1);
        } else {
            if shape.num_rows > LARGE_ROWS {
                self.graphs.retain(|graph| graph.shape().num_rows <= LARGE_ROWS);
            }
            if self.graphs.len() == MAX_GRAPHS {
                self.graphs.remove(0);
            }
            self.graphs.push(Graph::build(spec, weights, hook, shape)?);
        }
        let last = self.graphs.len() - 1;
        Ok(&mut self.graphs[last])
    }
}
