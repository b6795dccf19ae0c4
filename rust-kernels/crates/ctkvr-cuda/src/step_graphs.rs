//! Steps of decodes as graphs: all launches of a token in one. What differs from token to token (positions, lengths, tables, indexes) lies in
//! the device's memory, where the kernels read it; what a launch was given is the same as long as a [`GraphKey`] is.

use std::ops::Range;

use ctkvr_engine::Result;
use ctkvr_kernels::KvFormat;

use crate::format_rows::FormatRows;
use crate::stream::{Graph, Stream};

/// Graphs of a lane; with other memory they are of no use.
#[derive(Default)]
pub(crate) struct StepGraphs(Vec<(GraphKey, Graph)>);

/// What the launches of a step depend on, beside the lane's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GraphKey {
    pub outputs: usize,
    pub tokens_only: bool,
    pub formats: Vec<FormatKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormatKey {
    format: KvFormat,
    decodes: Range<usize>,
    is_searched: bool,
}

impl From<&FormatRows> for FormatKey {
    fn from(part: &FormatRows) -> Self {
        Self { format: part.format, decodes: part.decodes.clone(), is_searched: part.search.is_some() }
    }
}

/// Graphs that are kept: of as many batches as come in turn.
const MOST: usize = 8;

impl StepGraphs {
    /// Launches what `launch` gives the stream, from a graph of before where there is one for the key.
    ///
    /// # Errors
    /// What `launch` says; those of the driver.
    pub fn launch(&mut self, stream: &Stream, key: GraphKey, launch: impl FnOnce() -> Result<()>) -> Result<()> {
        let found = self.0.iter().position(|(of, _)| *of == key);
        let place = match found {
            Some(place) => place,
            None => {
                let graph = stream.capture(launch)?;
                if self.0.len() == MOST {
                    self.0.remove(0);
                }
                self.0.push((key, graph));
                self.0.len() - 1
            }
        };
        Ok(stream.launch_graph(&self.0[place].1)?)
    }

    /// Forgets all: memory has changed.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
