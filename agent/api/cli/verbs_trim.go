package cli

import (
	"context"

	"lls/agent/api"
)

func trim(side Side) Command {
	return Command{
		Name: "trim", Operands: "[NAME]", Max: 1,
		Short: pick(side, "give the space of deleted files back to the pool, of a mounted volume or of all of yours", "give the space of deleted files back to the pool, of a mounted volume or of all"),
		Examples: []Example{
			{"trim mine", "this one; it is done by itself from time to time, too"},
			{"trim", "all that are mounted"},
		},
		Run: func(ctx context.Context, c *Call) error {
			done := []api.Trimmed{}
			if err := c.Post(ctx, api.PathTrim, api.TrimRequest{Name: c.Operand(0)}, &done); err != nil {
				return err
			}
			lines := []string{}
			failed := 0
			for _, t := range done {
				switch {
				case t.Problem != "":
					failed++
					lines = append(lines, t.Problem)
				case t.Returned > 0:
					lines = append(lines, t.Name+" gave "+Size(t.Returned)+" back")
				default:
					lines = append(lines, t.Name+" had nothing to give back")
				}
			}
			if len(done) == 0 {
				lines = []string{"no volume is mounted that could be trimmed; to mount one: " + c.Hint("mount", "NAME", "PATH")}
			}
			if err := c.Show(done, lines...); err != nil {
				return err
			}
			if failed > 0 {
				return api.Errorf(api.Failed, "cannot trim %d of %d volumes", failed, len(done)).WithHint("try one alone: %s", c.Hint("trim", "NAME"))
			}
			return nil
		},
	}
}
