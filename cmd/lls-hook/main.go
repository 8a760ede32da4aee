// Lls-hook is what LXC runs for each container's start, on the host, when the container's root stands and its init has not run yet.
// It tells the agent and waits for it, but not for long: a container starts whatever the agent does. The one exception is the
// container's own wish: a line of its fstab marked x-lls.required. It mounts nothing itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"lls/agent/api"
	"lls/hooks"
)

// How long the hook waits: for the agent's first word, for each further one, and in all. LXC itself waits for a hook for ever. Only a
// container that would not start without the agent waits longer for a word: what is late is of no use to it.
const (
	firstWord  = 2 * time.Second
	nextWord   = 5 * time.Second
	wantedWord = 20 * time.Second
	inAll      = 60 * time.Second
)

// ownLook is how long the hook takes to read the fstab itself, when the agent does not answer.
const ownLook = 3 * time.Second

// doesNotStart is the exit status that keeps the container from starting. The line of packaging/lxc that runs the hook passes on no other:
// whatever else becomes of this program is no reason.
const doesNotStart = 42

func main() {
	if os.Geteuid() != 0 {
		return // a container of an ordinary user, which is not served
	}
	missing, err := start(os.Getenv, api.AdminSocket, rootOf)
	_, _ = os.Stderr.WriteString(words(missing, err)) // in one piece
	if len(missing) > 0 {
		tellJournal(os.Getenv("LXC_NAME"), missing)
		os.Exit(doesNotStart)
	}
}

// start tells the agent. missing is what the container says it cannot do without; the error alone keeps nothing from starting.
func start(env func(string) string, socket string, root func(pid int) string) (missing []string, err error) {
	h, err := said(env)
	if h.PID == 0 {
		return nil, err
	}
	required := func(why string) []string { return requiredOf(root(h.PID), why) }
	if err != nil {
		return required("the agent cannot serve this container: " + err.Error()), err
	}
	answer, err := tell(h, socket, func() bool { return len(required("")) > 0 })
	switch {
	case err == nil && answer.Unread: // the host's root may see more
		return append(answer.Missing, required("the agent cannot read it")...), nil
	case err == nil:
		return answer.Missing, nil
	case !served(err):
		return nil, err
	case silent(err):
		return required("the agent does not answer"), fmt.Errorf("the agent does not answer: %w", err)
	}
	return required("the agent cannot serve this container: " + err.Error()), fmt.Errorf("the agent cannot serve this container: %w", err)
}

// served is false for a container that LLS does not serve: one of a path that lls.toml does not name, one with the host's mounts, or one of
// an ordinary user, whose hook may not speak to the agent.
func served(err error) bool {
	return !api.NotFound.Is(err) && !(api.Denied.Is(err) && errors.Is(err, os.ErrPermission))
}

// silent tells an agent that is away, stuck or died from one that refused.
func silent(err error) bool {
	return api.Unreachable.Is(err) || api.Interrupted.Is(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// tell tells the agent and waits for its answer, longer when a container wants it.
func tell(h api.HookStart, socket string, wanted func() bool) (api.HookAnswer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), inAll)
	defer cancel()
	p := &patience{end: cancel, wanted: wanted}
	p.timer = time.AfterFunc(firstWord, p.over)
	defer p.timer.Stop()
	client := api.Dial(socket)
	client.Progress = func(string) { p.word() }
	var answer api.HookAnswer
	err := client.Post(ctx, api.PathHookStart, h, &answer)
	return answer, err
}

// patience ends the wait for an agent that says nothing any more.
type patience struct {
	end    func()
	wanted func() bool // the container does not start without the agent
	timer  *time.Timer

	mu    sync.Mutex
	words int
	due   time.Time // of the next word
	more  bool      // it has waited longer since the last word
}

// word is told of each word of the agent's.
func (p *patience) word() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.words++
	p.more = false
	p.wait(nextWord)
}

func (p *patience) over() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case time.Now().Before(p.due): // a word came at the last moment
	case p.words == 0 || p.more || !p.wanted():
		p.end()
	default:
		p.more = true
		p.wait(wantedWord - nextWord)
	}
}

func (p *patience) wait(d time.Duration) {
	p.due = time.Now().Add(d)
	p.timer.Reset(d)
}

// rootOf is the root directory of a process, as proc_pid_root(5) has it.
func rootOf(pid int) string { return "/proc/" + strconv.Itoa(pid) + "/root" }

// requiredOf reads from the container's fstab what it cannot do without, which nobody is there to mount: why.
func requiredOf(root, why string) []string {
	read := make(chan []byte, 1)
	go func() { // the process ends soon, and this with it
		text, err := readFstab(root)
		if err != nil {
			text = nil // it has none that can be read, so it requires nothing
		}
		read <- text
	}()
	var text []byte
	select {
	case text = <-read:
	case <-time.After(ownLook):
	}
	var missing []string
	plan := hooks.Parse(text).Plan(nil)
	for _, m := range plan.Mounts {
		if m.Required {
			missing = append(missing, fmt.Sprintf("line %d of its fstab is required, and %s", m.Line, why))
		}
	}
	for _, n := range plan.Refused {
		if n.Required {
			missing = append(missing, n.String())
		}
	}
	return missing
}

// said reads what LXC says of the container, by lxc.container.conf(5). The lxcpath is not said: it is where the config lies, which
// is LXCPATH/NAME/config, unless lxc-start was given another. With that error the answer has the rest.
func said(env func(string) string) (api.HookStart, error) {
	h := api.HookStart{Name: env("LXC_NAME")}
	pid, err := strconv.Atoi(env("LXC_PID"))
	if err != nil || pid < 2 || h.Name == "" {
		return h, fmt.Errorf("LXC says neither name nor pid: this is for lxc.hook.start-host")
	}
	h.PID = pid
	dir := filepath.Dir(env("LXC_CONFIG_FILE"))
	if !filepath.IsAbs(dir) || filepath.Base(dir) != h.Name {
		return h, fmt.Errorf("cannot tell the lxcpath: the config of %s is not LXCPATH/%s/config", h.Name, h.Name)
	}
	h.LXCPath = filepath.Dir(dir)
	return h, nil
}
