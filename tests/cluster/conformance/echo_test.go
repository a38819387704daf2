package conformance

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sigs.k8s.io/gateway-api/conformance/utils/echo"
)

const (
	// Names the program to check; `cargo build -p heddle-cluster --bin echo` makes it.
	echoVariable = "HEDDLE_ECHO"
	calls        = 20
)

// What our program prints is read here by the suite's own parser.
func TestTheSuiteReadsWhatOurEchoPrints(t *testing.T) {
	program := os.Getenv(echoVariable)
	if program == "" {
		t.Skipf("%s names no program to check", echoVariable)
	}
	http, grpc := startServer(t, program)
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}

	said := run(t, program, "client", "http://"+http+"/one?two=three", "--method=GET",
		"-H", "X-Header-Add:a", "-H", "x-header-add:b", "-H", "Host:echo-v2")
	response := echo.ParseResponse(said)
	check(t, "code", response.Code, "200")
	check(t, "hostname", response.Hostname, hostname)
	check(t, "method", response.Method, "GET")
	check(t, "host", response.Host, "echo-v2")
	check(t, "URL", response.URL, "/one?two=three")
	check(t, "protocol", response.Protocol, "HTTP/1.1")
	check(t, "request header", strings.Join(response.RequestHeaders.Values("X-Header-Add"), ","), "a,b")
	check(t, "response header", response.ResponseHeaders.Get("Content-Type"), "text/plain")

	for _, url := range []string{"http://" + http, "grpc://" + grpc} {
		said := run(t, program, "client", url, fmt.Sprintf("--count=%d", calls))
		// As the suite itself parts them.
		blocks := strings.Split(strings.TrimSpace(said), "\n\n")
		check(t, "answers of "+url, fmt.Sprint(len(blocks)), fmt.Sprint(calls))
		for _, block := range blocks {
			response := echo.ParseResponse(strings.TrimSpace(block))
			check(t, "code of "+url, response.Code, "200")
			check(t, "hostname of "+url, response.Hostname, hostname)
		}
	}
}

// On ports that the kernel chooses; the server says which: HTTP first, then gRPC, then bytes.
func startServer(t *testing.T, program string) (string, string) {
	t.Helper()
	server := exec.Command(program, "server", "--port=0", "--grpc=0", "--tcp=0")
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	var local []string
	for lines := bufio.NewScanner(output); len(local) < 3 && lines.Scan(); {
		line := lines.Text()
		local = append(local, "127.0.0.1"+line[strings.LastIndex(line, ":"):])
	}
	if len(local) < 3 {
		t.Fatalf("the server did not say where it listens, but %v", local)
	}
	return local[0], local[1]
}

func run(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	said, err := exec.Command(program, arguments...).Output()
	if err != nil {
		t.Fatalf("%v: %v", arguments, err)
	}
	return string(said)
}

func check(t *testing.T, what, found, want string) {
	t.Helper()
	if found != want {
		t.Errorf("%s: %q, want %q", what, found, want)
	}
}
