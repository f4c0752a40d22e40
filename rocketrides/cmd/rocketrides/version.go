package main

import (
	"fmt"

	"github.com/rocketrides/unilog/internal/version"
)

type versionCmd struct{}

// Run needs no servers.
func (versionCmd) Run() error {
	fmt.Println(version.String())
	return nil
}
