package dashboard

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"

	"github.com/rocketrides/unilog/internal/loop"
)

const (
	enterScreen = ansi.SetModeAltScreenSaveCursor + ansi.HideCursor + ansi.ResetModeAutoWrap + ansi.EraseEntireScreen
	leaveScreen = ansi.SetModeAutoWrap + ansi.ShowCursor + ansi.ResetModeAltScreenSaveCursor
	beginFrame  = ansi.SetModeSynchronizedOutput + ansi.CursorHomePosition
	endFrame    = ansi.EraseScreenBelow + ansi.ResetModeSynchronizedOutput
)

// ctrlC is what the key sends in raw mode.
const ctrlC = 3

// Watch shows on a terminal what [Dashboard] shows in a browser, without serving
// it, until ctx or the terminal ends, or somebody presses q or Ctrl-C. Of cfg it
// takes DB, Schema, Log, Audit, Words and Program. The terminal is then as it was before, after a panic of the
// caller's goroutine or the watcher's too.
func Watch(ctx context.Context, cfg Config, in, out *os.File, color bool) error {
	ctx, stop := signal.NotifyContext(ctx, append(loop.EndSignals(), syscall.SIGQUIT)...)
	defer stop()
	cfg.Logger, cfg.Control = slog.New(slog.DiscardHandler), ""
	d := New(cfg)
	d.hub.scene = &scene{words: d.words}
	s, err := openScreen(in, out, color)
	if err != nil {
		return err
	}
	defer s.close()

	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan any, 1)
	go func() {
		defer func() {
			panicked := recover()
			if panicked != nil {
				panicked = fmt.Sprintf("%v\n\n%s", panicked, debug.Stack())
			}
			watched <- panicked
		}()
		d.watch(ctx)
	}()
	err = s.show(ctx, d.hub, watched)
	cancel()
	if panicked := <-watched; panicked != nil {
		panic(panicked)
	}
	return err
}

// screen is a terminal that is ours alone.
type screen struct {
	in, out *os.File
	before  *term.State // of in, or nil if it is not a terminal
	styled  *colorprofile.Writer
	resized chan os.Signal
	drawn   []byte
}

func openScreen(in, out *os.File, color bool) (*screen, error) {
	s := &screen{in: in, out: out, styled: colorprofile.NewWriter(out, os.Environ()), resized: make(chan os.Signal, 1)}
	if !color {
		s.styled.Profile = min(s.styled.Profile, colorprofile.ASCII)
	}
	if term.IsTerminal(int(in.Fd())) {
		var err error
		if s.before, err = term.MakeRaw(int(in.Fd())); err != nil {
			return nil, fmt.Errorf("prepare the terminal: %w", err)
		}
	}
	signal.Notify(s.resized, syscall.SIGWINCH)
	_, _ = out.WriteString(enterScreen) // the first frame says what is wrong
	return s, nil
}

func (s *screen) close() {
	signal.Stop(s.resized)
	_, _ = s.out.WriteString(leaveScreen)
	if s.before != nil {
		_ = term.Restore(int(s.in.Fd()), s.before)
	}
}

// show draws until it is told to end, or watched is: that has then a value again.
func (s *screen) show(ctx context.Context, b *hub, watched chan any) error {
	ends := s.keys()
	tick := time.NewTicker(samplePause)
	defer tick.Stop()
	for {
		b.mu.Lock()
		now := *b.scene
		b.mu.Unlock()
		now.now = time.Now()
		if err := s.draw(&now); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case panicked := <-watched:
			watched <- panicked
			return nil
		case <-ends:
			return nil
		case <-s.resized:
			s.drawn = nil
		case <-tick.C:
		}
	}
}

// draw writes a frame in one piece, over the one before.
func (s *screen) draw(v *scene) error {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	var frame bytes.Buffer
	frame.WriteString(beginFrame)
	for i, line := range v.lines(width, height) {
		if i > 0 {
			frame.WriteString("\r\n")
		}
		frame.WriteString(line + ansi.EraseLineRight)
	}
	frame.WriteString(endFrame)
	if bytes.Equal(frame.Bytes(), s.drawn) {
		return nil
	}
	s.drawn = frame.Bytes()
	if _, err := s.styled.Write(s.drawn); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	return nil
}

// keys returns a channel that is closed when a key says that all is over, or the
// terminal is gone. Its goroutine may wait for a key until the process ends.
func (s *screen) keys() <-chan struct{} {
	if s.before == nil {
		return nil // whatever it is, nobody presses keys there
	}
	ends := make(chan struct{})
	go func() {
		defer close(ends)
		key := make([]byte, 1)
		for {
			if _, err := s.in.Read(key); err != nil || key[0] == 'q' || key[0] == ctrlC {
				return
			}
		}
	}()
	return ends
}
