//go:build tools

// Package tools names a second client of registries, so that go.mod pins it.
package tools

import _ "github.com/google/go-containerregistry/cmd/crane"
