package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/gateway-api/pkg/consts"
)

const (
	// The fields that Heddle reads are those of this channel.
	channel        = "experimental"
	apiModule      = "sigs.k8s.io/gateway-api"
	establishLimit = time.Minute
	pollInterval   = 200 * time.Millisecond
)

// Creates the Gateway API's CustomResourceDefinitions of the suite's version where they are absent, and waits
// until they are served. Those of another version or channel are somebody's: they are an error, and stay.
func installCRDs(ctx context.Context, c client.Client) error {
	wanted, err := bundledCRDs()
	if err != nil {
		return err
	}
	for _, crd := range wanted {
		if err := install(ctx, c, crd); err != nil {
			return fmt.Errorf("%s: %w", crd.Name, err)
		}
	}
	for _, crd := range wanted {
		if err := awaitEstablished(ctx, c, crd.Name); err != nil {
			return fmt.Errorf("%s is not served after %v: %w", crd.Name, establishLimit, err)
		}
	}
	return nil
}

func install(ctx context.Context, c client.Client, crd *apiextensions.CustomResourceDefinition) error {
	present := &apiextensions.CustomResourceDefinition{}
	err := c.Get(ctx, client.ObjectKeyFromObject(crd), present)
	if apierrors.IsNotFound(err) {
		return c.Create(ctx, crd)
	}
	if err != nil {
		return err
	}
	for _, annotation := range []string{consts.BundleVersionAnnotation, consts.ChannelAnnotation} {
		if found, want := present.Annotations[annotation], crd.Annotations[annotation]; found != want {
			return fmt.Errorf("is there already, with %s %q instead of %q; it is not replaced: "+
				"use a cluster of its own", annotation, found, want)
		}
	}
	return nil
}

func awaitEstablished(ctx context.Context, c client.Client, name string) error {
	return wait.PollUntilContextTimeout(ctx, pollInterval, establishLimit, true, func(ctx context.Context) (bool, error) {
		crd := &apiextensions.CustomResourceDefinition{}
		if err := c.Get(ctx, client.ObjectKey{Name: name}, crd); err != nil {
			return false, err
		}
		return slices.ContainsFunc(crd.Status.Conditions, func(condition apiextensions.CustomResourceDefinitionCondition) bool {
			return condition.Type == apiextensions.Established && condition.Status == apiextensions.ConditionTrue
		}), nil
	})
}

// The definitions that are in the module of the API, whose version is pinned in go.mod.
func bundledCRDs() ([]*apiextensions.CustomResourceDefinition, error) {
	folder, err := moduleFolder(apiModule)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(folder, "config", "crd", channel, "gateway.networking.*.yaml"))
	if err != nil {
		return nil, err
	}
	var found []*apiextensions.CustomResourceDefinition
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		crds, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		found = append(found, crds...)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no CustomResourceDefinitions of the channel %s", folder, channel)
	}
	return found, nil
}

// What else is in the files, such as a policy against changes of channel, is for clusters that are kept.
func decode(text []byte) ([]*apiextensions.CustomResourceDefinition, error) {
	var found []*apiextensions.CustomResourceDefinition
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		crd := &apiextensions.CustomResourceDefinition{}
		if err := decoder.Decode(crd); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		if crd.Kind == "CustomResourceDefinition" {
			found = append(found, crd)
		}
	}
}

func moduleFolder(module string) (string, error) {
	said, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("go list -m %s: %w", module, err)
	}
	return strings.TrimSpace(string(said)), nil
}
