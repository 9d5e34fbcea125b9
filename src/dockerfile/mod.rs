//! Dockerfile text to spanned instructions: directives, continuations, heredocs, words, expansion. Pure.
