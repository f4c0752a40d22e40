//go:build unix

package child

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// watch leaves a detached watcher behind and becomes the command, so that the
// process id, signals and exit status are the command's own. The watcher
// reads file 3: a line means that the command has ended, end of file that the
// parent has died. It holds on to none of the command's files.
const watch = `sig=$1; shift
(
	{ read -r _ <&3 || kill -"$sig" $$; } </dev/null >/dev/null 2>&1 4<&- 5<&- 6<&- &
)
exec "$@" 3<&-`

// tieByPipe runs cmd through a shell with a watcher. cmd's extra files become
// 4 and following; at most three are supported.
func tieByPipe(cmd *exec.Cmd, orphan syscall.Signal) (func(), error) {
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	if len(cmd.ExtraFiles) > 3 {
		return nil, fmt.Errorf("%d extra files, at most 3 are supported", len(cmd.ExtraFiles))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	command := append([]string{cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.Args = append([]string{"sh", "-c", watch, "sh", strconv.Itoa(int(orphan))}, command...)
	cmd.ExtraFiles = append([]*os.File{r}, cmd.ExtraFiles...)
	return func() {
		// The watcher may have gone already; nobody needs to know.
		_, _ = w.WriteString("\n")
		_ = w.Close()
		_ = r.Close()
	}, nil
}
