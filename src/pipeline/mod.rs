//! The one place that knows all stages: order, cancellation, clean-up, results.
