package auth

import "sync/atomic"

// Pool bounds the work of all guards of a process: how many bcrypt checks run at once, how many more may wait for
// their turn, and how many requests may wait for a check.
type Pool struct {
	running            chan struct{}
	checks, requests   atomic.Int64
	maxChecks, maxWait int64
}

// NewPool returns a pool that runs workers checks at once, holds queue more, and lets at most requests requests wait.
func NewPool(workers, queue, requests int) *Pool {
	return &Pool{
		running:   make(chan struct{}, workers),
		maxChecks: int64(workers + queue),
		maxWait:   int64(requests),
	}
}

// run starts task on a goroutine of its own as soon as a worker is free. It reports false if the queue is full.
func (p *Pool) run(task func()) bool {
	if p.checks.Add(1) > p.maxChecks {
		p.checks.Add(-1)
		return false
	}
	go func() {
		p.running <- struct{}{}
		defer func() {
			<-p.running
			p.checks.Add(-1)
		}()
		task()
	}()
	return true
}

// admit reports whether one more request may wait; leave must follow for each that was admitted.
func (p *Pool) admit() bool {
	if p.requests.Add(1) > p.maxWait {
		p.requests.Add(-1)
		return false
	}
	return true
}

func (p *Pool) leave(n int) { p.requests.Add(-int64(n)) }
