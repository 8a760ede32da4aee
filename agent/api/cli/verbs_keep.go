package cli

import (
	"context"

	"lls/agent/api"
)

func keep() Command {
	return Command{
		Name: "keep", Operands: "NAME ...", Min: 1, Max: -1,
		Short: "keep volumes for a time, whatever the policy says",
		Flags: []Flag{{Name: "for", Value: "TIME", Needed: true, Help: "such as 12h or 7d; never: without an end; 0: no longer"}},
		Examples: []Example{
			{"keep mine --for 7d", "for a week from now"},
			{"keep mine other --for 7d", "both"},
			{"keep mine --for 0", "it may go again when nobody uses it"},
		},
		Run: func(ctx context.Context, c *Call) error {
			return c.each(ctx, false, func(c *Call, name string) (v api.Volume, lines []string, err error) {
				if err := c.Post(ctx, api.PathKeep, api.KeepRequest{Name: name, For: c.Flag("for")}, &v); err != nil {
					return v, nil, err
				}
				switch {
				case v.Forever:
					return v, []string{v.Name + " is kept without an end"}, nil
				case v.Lease != nil:
					return v, []string{v.Name + " is kept until " + date(*v.Lease, c.Now())}, nil
				}
				return v, []string{v.Name + " is kept as long as the policy says"}, nil
			})
		},
	}
}
