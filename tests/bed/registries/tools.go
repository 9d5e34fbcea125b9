//go:build tools

// Package tools names a second registry and a second client of registries, so that go.mod pins them.
package tools

import (
	_ "github.com/distribution/distribution/v3/cmd/registry"
	_ "github.com/google/go-containerregistry/cmd/crane"
)
