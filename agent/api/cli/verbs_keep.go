package cli

import (
	"context"

	"lls/agent/api"
)

func keep() Command {
	return Command{
		Name: "keep", Operands: "NAME", Min: 1, Max: 1,
		Short: "keep a volume for a time, whatever the policy says",
		Flags: []Flag{{Name: "for", Value: "TIME", Needed: true, Help: "such as 12h or 7d; never: without an end; 0: no longer"}},
		Examples: []Example{
			{"keep mine --for 7d", "for a week from now"},
			{"keep mine --for 0", "it may go again when nobody uses it"},
		},
		Run: func(ctx context.Context, c *Call) error {
			var v api.Volume
			if err := c.Post(ctx, api.PathKeep, api.KeepRequest{Name: c.Operand(0), For: c.Flag("for")}, &v); err != nil {
				return err
			}
			line := v.Name + " is kept as long as the policy says"
			switch {
			case v.Forever:
				line = v.Name + " is kept without an end"
			case v.Lease != nil:
				line = v.Name + " is kept until " + date(*v.Lease, c.Now())
			}
			return c.Show(v, line)
		},
	}
}
