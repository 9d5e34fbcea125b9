//go:build tools

// Package tools names notation, whose signatures the tests have bk-sync check.
package tools

import _ "github.com/notaryproject/notation/cmd/notation"
