// Package conformance runs the mesh profiles of the Gateway API's conformance suite against the cluster of
// KUBECONFIG, in which Heddle is installed. What is claimed is in options.yaml; what came of it is written to
// report.yaml, and test by test to tests.txt, since a report does not count the tests that belong to no profile.
package conformance

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/utils/flags"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
)

const (
	optionsFile = "options.yaml"
	resultsFile = "tests.txt"
	// For whoever reads the repository, as its other files are.
	readable = 0o644
	// Every pod with a proxy has it: injector/src/annotations.rs.
	injectedAnnotation = "heddle.dev/injected"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *flags.ConformanceOptionsFile == "" {
		if err := flag.Set("conformance-options-file", optionsFile); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	os.Exit(m.Run())
}

func TestMesh(t *testing.T) {
	if os.Getenv("KUBECONFIG") == "" {
		t.Fatal("KUBECONFIG names no cluster: see docs/conformance.md for how one is started")
	}
	options := conformance.DefaultOptions(t)
	if err := installCRDs(context.Background(), options.Client); err != nil {
		t.Fatal(err)
	}
	if flagWasSet("run-test") {
		// Its report would say of all other tests that they were skipped.
		options.ReportOutputPath = ""
	}
	results := &results{}
	options.Hook = results.record
	t.Cleanup(func() { results.write(t) })
	if options.ReportOutputPath != "" {
		// The suite writes it for its owner only. This runs after the suite's own cleanup.
		t.Cleanup(func() {
			if err := os.Chmod(options.ReportOutputPath, readable); err != nil {
				t.Error(err)
			}
		})
	}
	conformance.RunConformanceWithOptions(t, options)
}

// How each test of the mesh ended.
type results struct {
	lines []string
	// Whether the suite's pods were found to have proxies.
	meshed bool
}

func (r *results) record(t *testing.T, test suite.ConformanceTest, s *suite.ConformanceTestSuite) {
	if !slices.Contains(test.Features, features.SupportMesh) {
		return
	}
	if !r.meshed {
		mustBeMeshed(t, s)
		r.meshed = true
	}
	outcome := "passed"
	switch {
	case t.Failed():
		outcome = "failed"
	case t.Skipped():
		outcome = "skipped"
	}
	beyond := []string{}
	for _, feature := range test.Features {
		if feature != features.SupportMesh && feature != features.SupportHTTPRoute && feature != features.SupportGRPCRoute {
			beyond = append(beyond, string(feature))
		}
	}
	slices.Sort(beyond)
	kind := "core"
	if len(beyond) > 0 {
		kind = strings.Join(beyond, ", ")
	}
	r.lines = append(r.lines, fmt.Sprintf("%-45s %-8s %s", test.ShortName, outcome, kind))
}

// Without proxies a good part of the tests would pass by chance: whoever sends three requests to either of two pods
// finds the one that is wanted soon enough.
func mustBeMeshed(t *testing.T, s *suite.ConformanceTestSuite) {
	for _, namespace := range []string{suite.MeshNamespace, suite.MeshConsumerNamespace} {
		pods := &core.PodList{}
		if err := s.Client.List(context.Background(), pods, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			if pod.Annotations[injectedAnnotation] != "true" {
				t.Errorf("pod %s/%s has no proxy: what passes proves nothing", namespace, pod.Name)
			}
		}
	}
}

// Of a run of a single test nothing is kept.
func (r *results) write(t *testing.T) {
	if len(r.lines) == 0 || flagWasSet("run-test") {
		return
	}
	slices.Sort(r.lines)
	text := strings.Join(r.lines, "\n") + "\n"
	if err := os.WriteFile(resultsFile, []byte(text), readable); err != nil {
		t.Error(err)
	}
}

func flagWasSet(name string) bool {
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}
