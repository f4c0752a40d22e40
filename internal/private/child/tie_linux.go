package child

import (
	"os/exec"
	"syscall"
)

func platformTie(cmd *exec.Cmd, orphan syscall.Signal) (func(), error) {
	cmd.SysProcAttr.Pdeathsig = orphan
	return func() {}, nil
}
