//! How an executor's crate runs the tests.

use std::sync::Arc;

use ctkvr_engine::{Engine, EngineOptions, Executor};
use ctkvr_model::Model;

/// Makes an executor of a model.
pub type Make<'a> = dyn Fn(&Arc<Model>, usize) -> Box<dyn Executor> + 'a;

/// An executor under test.
pub struct Suite<'a> {
    /// Makes one on so many threads, or on as many of them as it can use.
    pub make: &'a Make<'a>,
    /// Tests that it does not run.
    pub skip: &'a [Skip],
}

/// Tests that do not run, and why.
pub struct Skip {
    pub reason: &'static str,
    pub tests: &'static [&'static str],
}

/// Of executors that leave [`ctkvr_engine::SequenceResult::read_map`] out.
pub const NO_READ_MAP: Skip =
    Skip { reason: "this executor makes no read maps", tests: &["a_read_map_adds_up_to_the_mass_that_was_read"] };

impl Suite<'_> {
    pub fn engine(&self, model: &Arc<Model>, num_threads: usize, prefill_chunk: usize) -> Engine {
        Engine::new(Arc::clone(model), (self.make)(model, num_threads), EngineOptions { prefill_chunk }).unwrap()
    }

    /// Runs a test, or says why not.
    pub fn run(&self, name: &str, test: fn(&Self)) {
        match self.skip.iter().find(|skip| skip.tests.contains(&name)) {
            Some(skip) => println!("skipped: {}", skip.reason),
            None => test(self),
        }
    }
}

/// A test function for each test there is.
#[macro_export]
macro_rules! engine_tests {
    ($suite:expr) => {
        $crate::engine_tests!(
            @each $suite;
            engine: a_step_over_several_sequences_equals_a_step_for_each,
            chunks_of_any_size_and_single_decodes_give_the_same_distributions,
            any_number_of_threads_gives_the_same_distributions,
            decode_and_prefill_phases_of_one_token_agree_under_the_full_selector,
            decode_reports_what_it_read,
            a_read_map_adds_up_to_the_mass_that_was_read,
            a_cancelled_step_leaves_every_sequence_as_it_was,
            an_executor_that_fails_leaves_every_sequence_as_it_was,
            plans_that_cannot_run_are_refused_before_any_work,
            truncating_equals_never_having_appended,
            a_fork_goes_its_own_way,
            keys_and_values_in_8_bits_say_nearly_the_same_in_less_memory,
            while_a_step_runs_others_are_refused_and_sequences_can_come_and_go,
            a_seed_replays_a_generation,
            a_greedy_sample_is_the_most_probable_token,
            an_engine_is_refused_an_executor_of_another_model;
            executor: cancelling_stops_between_layers,
            a_panic_in_the_attention_fails_the_step_and_nothing_else,
            a_batch_changes_nothing_but_what_it_appends;
            side_by_side: answers_are_the_same_bits_beside_others_in_pieces_and_on_threads;
            snapshots: a_restored_sequence_goes_on_with_the_same_bits,
            a_snapshot_in_the_middle_of_a_prompt_a_build_or_before_anything,
            a_restored_sampler_goes_on_with_its_draws,
            a_damaged_snapshot_is_refused,
            a_made_up_snapshot_does_no_harm,
            a_snapshot_of_something_else_is_refused;
            same_bits: a_sequence_alone_whole_and_on_one_thread_is_the_same
        );
    };
    (@each $suite:expr; $($module:ident: $($test:ident),+);+) => {
        $($(
            #[test]
            fn $test() {
                $suite.run(stringify!($test), $crate::$module::$test);
            }
        )+)+
    };
}
