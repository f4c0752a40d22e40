package cli

import (
	"fmt"

	"github.com/rocketrides/unilog/internal/version"
)

// Version is of the build, and needs no servers.
type Version struct{}

// Run prints it.
func (Version) Run(p *Program) error {
	fmt.Println(version.String(p.Name))
	return nil
}
