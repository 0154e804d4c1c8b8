package auth

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"
)

func hashOf(t testing.TB, password string, cost int) string {
	t.Helper()
	text, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func guard(pool *Pool, users ...User) *Guard {
	if pool == nil {
		pool = NewPool(2, 100, 100)
	}
	return New(&Config{Realm: "Restricted", Users: users}, pool)
}

func check(g *Guard, credential string) Verdict {
	verdict, _ := g.Check([]byte(basic(credential)))
	return verdict
}

// verify asks as a request does: first without bcrypt, then with it. It also reports whether bcrypt was needed.
func verify(g *Guard, credential string) (verdict Verdict, asked bool) {
	if verdict := check(g, credential); verdict != Undecided {
		return verdict, false
	}
	done := make(chan Verdict, 1)
	if verdict := g.Verify([]byte(basic(credential)), func(v Verdict) { done <- v }); verdict != Undecided {
		return verdict, true
	}
	return <-done, true
}

func TestGuard(t *testing.T) {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	long := strings.Repeat("p", 73)
	h := func(password string) string { return hashOf(t, password, bcrypt.MinCost) }
	plain := User{Name: "foo", Password: "bar"}
	hashed := User{Name: "foo", Hash: h("bar")}
	for _, c := range []struct {
		name       string
		users      []User
		credential string
		want       Verdict
	}{
		{"plain: right", []User{plain}, "foo:bar", Allowed},
		{"plain: wrong password", []User{plain}, "foo:baz", Denied},
		{"plain: prefix", []User{plain}, "foo:ba", Denied},
		{"plain: unknown user", []User{plain}, "fop:bar", Denied},
		{"plain: case counts", []User{plain}, "Foo:bar", Denied},
		{"plain: colons belong to the password", []User{{Name: "foo", Password: "b:r"}}, "foo:b:r", Allowed},
		{"plain: malformed", []User{plain}, "foobar", Denied},
		{"plain: expired", []User{{Name: "foo", Password: "bar", NotAfter: &past}}, "foo:bar", Expired},
		{"plain: expired, and wrong", []User{{Name: "foo", Password: "bar", NotAfter: &past}}, "foo:baz", Denied},
		{"plain: not yet expired", []User{{Name: "foo", Password: "bar", NotAfter: &future}}, "foo:bar", Allowed},
		{"plain: long", []User{{Name: "foo", Password: long}}, "foo:" + long, Allowed},
		{"plain: old of two", []User{{Name: "foo", Password: "old", NotAfter: &future}, plain}, "foo:old", Allowed},
		{"plain: new of two", []User{{Name: "foo", Password: "old", NotAfter: &future}, plain}, "foo:bar", Allowed},
		{"plain: the same twice, the later end counts", []User{{Name: "foo", Password: "bar", NotAfter: &past}, plain}, "foo:bar", Allowed},
		{"plain: the same twice, in other order", []User{plain, {Name: "foo", Password: "bar", NotAfter: &past}}, "foo:bar", Allowed},
		{"plain: of another user", []User{plain, {Name: "fop", Password: "baz"}}, "fop:bar", Denied},
		{"bcrypt: right", []User{hashed}, "foo:bar", Allowed},
		{"bcrypt: of another implementation", []User{{Name: "foo", Hash: bcryptBar}}, "foo:bar", Allowed},
		{"bcrypt: $2y$", []User{{Name: "foo", Hash: "$2y" + bcryptBar[3:]}}, "foo:bar", Allowed},
		{"bcrypt: wrong password", []User{hashed}, "foo:baz", Denied},
		{"bcrypt: unknown user", []User{hashed}, "fop:bar", Denied},
		{"bcrypt: expired", []User{{Name: "foo", Hash: h("bar"), NotAfter: &past}}, "foo:bar", Expired},
		{"bcrypt: second of two", []User{{Name: "foo", Hash: h("old")}, hashed}, "foo:bar", Allowed},
		{"bcrypt: 72 bytes", []User{{Name: "foo", Hash: h(long[:72])}}, "foo:" + long[:72], Allowed},
		{"bcrypt: 73 bytes", []User{{Name: "foo", Hash: h(long[:72])}}, "foo:" + long, Denied},
		{"bcrypt: expired, but the same again for ever", []User{{Name: "foo", Hash: h("bar"), NotAfter: &past}, hashed}, "foo:bar", Allowed},
		{"mixed: plain", []User{plain, {Name: "foo", Hash: h("new")}}, "foo:bar", Allowed},
		{"mixed: bcrypt", []User{plain, {Name: "foo", Hash: h("new")}}, "foo:new", Allowed},
		{"mixed: neither", []User{plain, {Name: "foo", Hash: h("new")}}, "foo:baz", Denied},
		{"mixed: plain expired, bcrypt lives", []User{{Name: "foo", Password: "bar", NotAfter: &past}, hashed}, "foo:bar", Allowed},
		{"mixed: plain expired, bcrypt is of another password", []User{{Name: "foo", Password: "bar", NotAfter: &past}, {Name: "foo", Hash: h("new")}}, "foo:bar", Expired},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := guard(nil, c.users...)
			if got, _ := verify(g, c.credential); got != c.want {
				t.Errorf("first: got %d, want %d", got, c.want)
			}
			if got, asked := verify(g, c.credential); got != c.want || asked {
				t.Errorf("again: got %d, want %d; bcrypt asked: %v", got, c.want, asked)
			}
		})
	}
}

func TestExpiryIsCheckedAtEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(time.Minute)
		g := guard(nil, User{Name: "a", Password: "x", NotAfter: &end},
			User{Name: "b", Hash: hashOf(t, "x", bcrypt.MinCost), NotAfter: &end})
		for _, credential := range []string{"a:x", "b:x"} {
			if got, _ := verify(g, credential); got != Allowed {
				t.Errorf("%s: got %d before", credential, got)
			}
			if _, until := g.Check([]byte(basic(credential))); until != end.UnixMilli() {
				t.Errorf("%s: allowed until %d, want %d", credential, until, end.UnixMilli())
			}
		}
		time.Sleep(time.Minute - time.Millisecond)
		if check(g, "a:x") != Allowed || check(g, "b:x") != Allowed {
			t.Error("refused just before")
		}
		time.Sleep(time.Millisecond)
		if check(g, "a:x") != Expired || check(g, "b:x") != Expired {
			t.Error("allowed from the instant on")
		}
	})
}

func TestNeverEnds(t *testing.T) {
	if _, until := guard(nil, User{Name: "a", Password: "x"}).Check([]byte(basic("a:x"))); until != never {
		t.Errorf("until %d", until)
	}
}

// TestWork proves that a wrong password costs the same for every name, by what bcrypt is asked to do.
func TestWork(t *testing.T) {
	h := func(cost int) string { return fmt.Sprintf("$2b$%02d$%s", cost, strings.Repeat(".", 53)) }
	g := guard(nil,
		User{Name: "two", Hash: h(5)}, User{Name: "two", Hash: h(6)},
		User{Name: "cheap", Hash: h(4)},
		User{Name: "dear", Hash: h(7)},
		User{Name: "plain", Password: "x"})
	for _, name := range []string{"two", "cheap", "dear", "plain", "unknown"} {
		work := 0
		g.compare = func(hash, password []byte) error {
			if cost, err := bcrypt.Cost(hash); err == nil {
				work += 1 << cost
			}
			err := bcrypt.CompareHashAndPassword(hash, password)
			if err != bcrypt.ErrMismatchedHashAndPassword {
				t.Errorf("%s: comparing with %s: %v", name, hash, err)
			}
			return err
		}
		if _, ok := g.try(name, []byte("wrong")); ok || work != 1<<7 {
			t.Errorf("%s: accepted: %v; work %d, want %d", name, ok, work, 1<<7)
		}
	}
}

func TestOneCheckForManyRequests(t *testing.T) {
	pool := NewPool(1, 10, 100)
	g := guard(pool, User{Name: "foo", Hash: hashOf(t, "bar", 6)})
	pool.running <- struct{}{} // no check can begin
	var wait sync.WaitGroup
	verdicts := make(chan Verdict, 50)
	for range 50 {
		wait.Go(func() {
			if got := g.Verify([]byte(basic("foo:bar")), func(v Verdict) { verdicts <- v }); got != Undecided {
				t.Errorf("got %d", got)
			}
		})
	}
	wait.Wait()
	if n := pool.checks.Load(); n != 1 {
		t.Errorf("%d checks for one credential", n)
	}
	<-pool.running
	for range 50 {
		if got := <-verdicts; got != Allowed {
			t.Errorf("got %d", got)
		}
	}
	settle(t, pool)
}

// settle waits until a pool is empty, which it must become.
func settle(t *testing.T, pool *Pool) {
	t.Helper()
	for range 1000 {
		if pool.checks.Load() == 0 && pool.requests.Load() == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("left in the pool: %d checks, %d requests", pool.checks.Load(), pool.requests.Load())
}

func TestOverload(t *testing.T) {
	pool := NewPool(1, 2, 5)
	g := guard(pool, User{Name: "foo", Hash: hashOf(t, "bar", bcrypt.MinCost)}, User{Name: "known", Password: "x"})
	pool.running <- struct{}{}
	verdicts := make(chan Verdict, 10)
	ask := func(credential string) Verdict {
		return g.Verify([]byte(basic(credential)), func(v Verdict) { verdicts <- v })
	}
	for _, step := range []struct {
		credential string
		want       Verdict
	}{
		{"foo:1", Undecided}, {"foo:2", Undecided}, {"foo:bar", Undecided},
		{"foo:4", Overloaded},                        // three checks: one at work, two in the queue
		{"foo:bar", Undecided}, {"foo:1", Undecided}, // these only join
		{"foo:bar", Overloaded},                     // five requests wait
		{"known:x", Allowed}, {"malformed", Denied}, // these need no check
	} {
		if got := ask(step.credential); got != step.want {
			t.Errorf("%s: got %d, want %d", step.credential, got, step.want)
		}
	}
	<-pool.running
	allowed := 0
	for range 5 {
		if <-verdicts == Allowed {
			allowed++
		}
	}
	if allowed != 2 {
		t.Errorf("%d of 2 allowed", allowed)
	}
	settle(t, pool)
	// An overload isn't remembered.
	if got, _ := verify(g, "foo:4"); got != Denied {
		t.Errorf("got %d", got)
	}
}

func TestWrongCredentialsPushOutNoRightOne(t *testing.T) {
	g := guard(nil, User{Name: "foo", Hash: hashOf(t, "bar", bcrypt.MinCost)})
	if got, _ := verify(g, "foo:bar"); got != Allowed {
		t.Fatalf("got %d", got)
	}
	for i := range 3 * maxRefusals {
		g.settle(g.tag(fmt.Appendf(nil, "foo:%d", i)), 0, false)
	}
	if n := len(g.refused.set); n != maxRefusals || len(g.refused.ring) != n {
		t.Errorf("%d refusals, %d in the ring", n, len(g.refused.ring))
	}
	if check(g, "foo:bar") != Allowed || check(g, fmt.Sprintf("foo:%d", 3*maxRefusals-1)) != Denied || check(g, "foo:0") != Undecided {
		t.Error("the wrong ones were forgotten")
	}
}

func TestPanicRefuses(t *testing.T) {
	pool := NewPool(1, 1, 1)
	g := guard(pool, User{Name: "foo", Hash: hashOf(t, "bar", bcrypt.MinCost)})
	g.hashes["foo"][0].text = nil // costOf panics
	if got, _ := verify(g, "foo:bar"); got != Denied {
		t.Errorf("got %d", got)
	}
	settle(t, pool)
}

func TestGuardsDontShareTags(t *testing.T) {
	a, b := guard(nil, User{Name: "foo", Password: "bar"}), guard(nil, User{Name: "foo", Password: "bar"})
	if a.tag([]byte("foo:bar")) == b.tag([]byte("foo:bar")) {
		t.Error("two guards have one key")
	}
}

// TestManyAtOnce is for the race detector: requests of all kinds while credentials are settled.
func TestManyAtOnce(t *testing.T) {
	users := []User{{Name: "plain", Password: "x"}}
	for i := range 8 {
		users = append(users, User{Name: fmt.Sprint("u", i), Hash: hashOf(t, "x", bcrypt.MinCost)})
	}
	pool := NewPool(4, 100, 1000)
	g := guard(pool, users...)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range 8 {
				for credential, want := range map[string]Verdict{
					fmt.Sprintf("u%d:x", i): Allowed, fmt.Sprintf("u%d:y", i): Denied, "plain:x": Allowed, "plain:y": Denied,
				} {
					if got, _ := verify(g, credential); got != want {
						t.Errorf("%s: got %d, want %d", credential, got, want)
					}
				}
			}
		})
	}
	wait.Wait()
	settle(t, pool)
}

func TestCheckAllocatesNothing(t *testing.T) {
	g := guard(nil, User{Name: "foo", Password: "bar"})
	right, wrong := []byte(basic("foo:bar")), []byte(basic("foo:baz"))
	if n := testing.AllocsPerRun(100, func() { g.Check(right); g.Check(wrong) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestGuardHoldsNoPassword(t *testing.T) {
	const password = "correct horse"
	g := guard(nil, User{Name: "foo", Password: password}, User{Name: "foo", Hash: hashOf(t, password+"2", bcrypt.MinCost)})
	for _, suffix := range []string{"", "2", "3"} {
		verify(g, "foo:"+password+suffix)
	}
	// With %s, bytes anywhere in a value are printed as text; the second dump proves it.
	dump := func(values ...any) string { return fmt.Sprintf(strings.Repeat("%s ", len(values)), values...) }
	if strings.Contains(dump(g.key, *g.entries.Load(), g.hashes, g.refused.set, g.flights), password) {
		t.Error("the guard holds a password")
	}
	if !strings.Contains(dump(map[head]hash{{}: {text: []byte(password)}}), password) {
		t.Error("this test sees nothing")
	}
}

func BenchmarkCheck(b *testing.B) {
	g := guard(nil, User{Name: "foo", Password: "bar"})
	header := []byte(basic("foo:bar"))
	for b.Loop() {
		g.Check(header)
	}
}
