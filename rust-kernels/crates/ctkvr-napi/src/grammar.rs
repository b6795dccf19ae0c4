//! Compiled grammars.

use std::sync::Arc;

use ctkvr_model::{Grammar, Model};
use napi::{Env, Task};
use napi_derive::napi;

use crate::error::{caught, model_error};

/// `NativeGrammar` of packages/native/src/binding.ts.
#[napi(js_name = "Grammar")]
pub struct NativeGrammar {
    grammar: Grammar,
}

impl NativeGrammar {
    /// The grammar at its beginning.
    pub fn begin(&self) -> Grammar {
        self.grammar.clone()
    }
}

/// Compiling on a worker thread.
pub struct CompileGrammar {
    model: Arc<Model>,
    lark: String,
}

impl CompileGrammar {
    pub fn new(model: Arc<Model>, lark: String) -> Self {
        Self { model, lark }
    }
}

impl Task for CompileGrammar {
    type Output = Grammar;
    type JsValue = NativeGrammar;

    fn compute(&mut self) -> napi::Result<Grammar> {
        caught(|| self.model.compile_grammar(&self.lark).map_err(|error| model_error(&error)))
    }

    fn resolve(&mut self, _env: Env, grammar: Grammar) -> napi::Result<NativeGrammar> {
        Ok(NativeGrammar { grammar })
    }
}
