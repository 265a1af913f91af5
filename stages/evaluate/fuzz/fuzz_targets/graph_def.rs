//! TensorFlow's frozen graphs.
#![no_main]

use extractors::inception::graph_def::Graph;

/// A value may stand for 1024 (`MOST_EXPANDED`), held as a vector and as a tensor; a node of two bytes takes about a hundred.
const FACTOR: usize = 3 * 1024;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    evaluate_fuzz::bounded(data.len(), FACTOR, || {
        if let Ok(graph) = Graph::parse("fuzz.pb", data) {
            let _ = graph.constant("conv/conv2d_params");
            let _ = graph.weights();
        }
    });
});
