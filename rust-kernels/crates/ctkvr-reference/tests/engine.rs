//! The engine's tests on the reference executor.

use std::sync::Arc;

use ctkvr_engine_suite::Suite;
use ctkvr_reference::ReferenceExecutor;

ctkvr_engine_suite::engine_tests!(Suite {
    make: &|model, _| Box::new(ReferenceExecutor::new(Arc::clone(model)).expect("a checked model")),
    skip: &[],
});
