package agent

// How much a piece of news matters.
type newsKind int

const (
	plainNews newsKind = iota
	warningNews
	urgentNews
)

// news tells the sysadmin of something that the agent did, or could not do, by itself.
func (a *Agent) news(kind newsKind, line string, details ...string) {
	a.log.Info("news", "what", line, "details", details)
}
