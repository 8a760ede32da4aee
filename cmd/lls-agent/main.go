// Lls-agent is the daemon of LLS and the sysadmin's command line to it.
package main

import (
	"os"

	"lls/agent/api"
	"lls/agent/api/cli"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(cli.Main(program())) }

func program() *cli.Program {
	commands := append(daemonCommands(), cli.Volumes(cli.Host, nil)...)
	return &cli.Program{
		Name: "lls-agent", Version: version, Socket: api.AdminSocket,
		Short:    "the daemon of LLS, and the sysadmin's commands to it",
		Commands: append(commands, give(), revoke()),
		Examples: []cli.Example{
			{Line: "init --device /dev/sdb", Does: "make a pool on an empty disk"},
			{Line: "create genomes --size 2T", Does: "make a dataset"},
			{Line: "mount genomes /mnt", Does: "mount it on the host, to fill it"},
			{Line: "status", Does: "pools, containers, problems"},
		},
		Notes: []string{"NAME is a volume of the host, CONTAINER/NAME one of a container."},
	}
}
