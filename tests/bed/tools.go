//go:build tools

// Package tools names the programs that the test bed builds from the Go module proxy, so that
// go.mod pins them (buildkit's own go.mod has exclude lines, which `go install …@version` refuses).
package tools

import (
	_ "github.com/moby/buildkit/cmd/buildctl"
	_ "github.com/moby/buildkit/cmd/buildkitd"
)
