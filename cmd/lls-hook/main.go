// Lls-hook is what LXC runs for each container's start, on the host, when the container's root stands and its init has not run yet.
// It tells the agent and waits for it, but not for long: a container starts whatever the agent does. It mounts nothing itself.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"lls/agent/api"
)

// How long the hook waits: for the agent's first word, for each further one, and in all. LXC itself waits for a hook for ever.
const (
	firstWord = 2 * time.Second
	nextWord  = 20 * time.Second
	inAll     = 60 * time.Second
)

func main() {
	if err := start(os.Getenv, api.AdminSocket); err != nil {
		// LXC puts this into the container's log. The exit status stays 0: LLS never keeps a container from starting.
		fmt.Fprintln(os.Stderr, "lls-hook:", err)
	}
}

func start(env func(string) string, socket string) error {
	if _, err := os.Stat(socket); err != nil {
		return fmt.Errorf("the agent does not run: %w", err)
	}
	h, err := said(env)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), inAll)
	defer cancel()
	patience := time.AfterFunc(firstWord, cancel)
	defer patience.Stop()
	client := api.Dial(socket)
	client.Progress = func(string) { patience.Reset(nextWord) }
	return client.Post(ctx, api.PathHookStart, h, nil)
}

// said reads what LXC says of the container, by lxc.container.conf(5). The lxcpath is not said: it is where the config lies, which
// is LXCPATH/NAME/config.
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
