//! Policy as data: names, tags, platforms, what a build is asked to do. Pure.
