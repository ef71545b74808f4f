// Kubernetes' own NetworkPolicy specs, and nothing else of its end-to-end suite: importing that one package builds in
// seconds, all of test/e2e in a quarter of an hour.
//
// ginkgo's own program runs it in several processes; the first one has the report of all and judges.
//
// A spec may fail if its name stands in the file of known failures. That file only shrinks: a spec in it that passes, or
// that there is not, fails the run.
package conformance

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/network/netpol"
)

var (
	knownFile = flag.String("known-failures", "", "file of the specs that may fail, one name a line")
	progress  = flag.String("progress", "/dev/stderr", "where a line for each spec and the summary are added")
)

func TestMain(m *testing.M) {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	framework.AfterReadingAllFlags(&framework.TestContext)
	os.Exit(m.Run())
}

// Past ginkgo, which keeps what is written to the standard outputs. One write a line, so processes do not mix theirs.
func tell(format string, a ...any) {
	file, err := os.OpenFile(*progress, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer file.Close()
	_, _ = file.WriteString(fmt.Sprintf(format, a...))
}

// ginkgo's own verdict does not know what may fail; ours is read from the report.
type unjudged struct{}

func (unjudged) Fail() {}

func TestNetworkPolicy(t *testing.T) {
	known, err := names(*knownFile)
	if err != nil {
		t.Fatalf("known failures: %v", err)
	}
	gomega.RegisterFailHandler(framework.Fail)
	// Here and not at the top: the framework previews all specs while it reads its flags, and ginkgo forgets what stood there.
	ginkgo.ReportAfterEach(func(spec ginkgo.SpecReport) {
		if ran(spec) {
			tell("%-8s %4.0f s  %s\n", spec.State, spec.RunTime.Seconds(), spec.FullText())
		}
	})
	suite, reporter := framework.CreateGinkgoConfig()
	ginkgo.RunSpecs(unjudged{}, "NetworkPolicy", suite, reporter)
	if suite.ParallelProcess != 1 {
		return
	}
	summary, complaints := judge(report, known, suite.FocusStrings)
	for _, complaint := range complaints {
		tell("%s\n", complaint)
		t.Error(complaint)
	}
	tell("%s\n", summary)
}

var report ginkgo.Report

var _ = ginkgo.ReportAfterSuite("keep the report", func(r ginkgo.Report) { report = r })

func ran(spec ginkgo.SpecReport) bool {
	return !spec.State.Is(types.SpecStateSkipped | types.SpecStatePending)
}

// What is wrong with a run, and the run in one line. With a focus, specs that were not asked for are not missed.
func judge(r ginkgo.Report, known map[string]bool, focus []string) (summary string, complaints []string) {
	complain := func(format string, a ...any) { complaints = append(complaints, fmt.Sprintf(format, a...)) }
	var passed, failed, expected, leftOut int
	met := map[string]bool{}
	for _, spec := range r.SpecReports {
		if spec.LeafNodeType != types.NodeTypeIt {
			if spec.Failed() {
				complain("FAILED: %s: %s", spec.LeafNodeType, spec.Failure.Message)
			}
			continue
		}
		name := spec.FullText()
		met[name] = true
		switch {
		case !ran(spec):
			leftOut++
		case spec.Failed() && known[name]:
			failed++
			expected++
		case spec.Failed():
			failed++
			complain("FAILED: %s", name)
		case known[name]:
			passed++
			complain("PASSES: take it out of %s: %s", *knownFile, name)
		default:
			passed++
		}
	}
	for name := range known {
		if !met[name] {
			complain("NO SUCH SPEC: take it out of %s: %s", *knownFile, name)
		}
	}
	if passed+failed == 0 {
		complain("no spec was run")
	}
	summary = fmt.Sprintf("netpol: %d specs run, %d passed, %d failed (%d of them known), %d left out, %s", passed+failed,
		passed, failed, expected, leftOut, r.RunTime.Round(time.Second))
	if len(focus) > 0 {
		summary += ", only those that match " + strings.Join(focus, ", ")
	}
	return summary, complaints
}

func names(path string) (map[string]bool, error) {
	known := map[string]bool{}
	if path == "" {
		return known, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
			known[line] = true
		}
	}
	return known, lines.Err()
}
