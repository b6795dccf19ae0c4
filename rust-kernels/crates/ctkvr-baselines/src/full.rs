//! Everything is read, always: dense attention. Also what other methods keep of the layers that their authors leave dense.

use std::sync::Arc;

use ctkvr_core::Result;
use ctkvr_core::retriever::{
    BuildInput, Candidates, HeadQuery, HeadRetriever, HeadSize, Proposal, Retriever, Scratch, same_options,
};

/// The method, and what it keeps of a head: nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Full;

impl HeadRetriever for Full {
    fn search(&self, _query: &HeadQuery, _scratch: &mut Scratch, out: &mut Proposal) {
        out.candidates = Candidates::All;
    }
    fn encode(&self, _out: &mut Vec<u8>) {}
    fn bytes(&self) -> usize {
        0
    }
}

impl Retriever for Full {
    fn name(&self) -> &'static str {
        "full"
    }
    fn is_dense(&self) -> bool {
        true
    }
    fn build(&self, _input: &BuildInput) -> Result<Arc<dyn HeadRetriever>> {
        Ok(Arc::new(Self))
    }
    fn same_build(&self, other: &dyn Retriever) -> bool {
        same_options(self, other)
    }
    fn bytes_needed(&self, _size: &HeadSize) -> usize {
        0
    }
    fn decode(&self, _bytes: &[u8], input: &BuildInput) -> Result<Arc<dyn HeadRetriever>> {
        self.build(input)
    }
}
