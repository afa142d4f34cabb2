// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

// endMark is an annotation of the objects that end the comparison of watches.
const endMark = "example.com/end"

var names = []string{"a", "b", "c", "d"}

// generator makes steps. All random values of a step are drawn when the step is made.
type generator struct {
	*rand.Rand
	kind behaviours.Kind
}

func pick[T any](g *generator, values ...T) T { return values[g.IntN(len(values))] }

// oneIn returns true once in n times.
func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

// usually returns the first value, and once in n times one of the others.
func usually[T any](g *generator, n int, value T, others ...T) T {
	if g.oneIn(n) {
		return pick(g, others...)
	}
	return value
}

func (g *generator) step() step {
	switch n := g.IntN(100); {
	case n < 14:
		return g.create()
	case n < 32:
		return g.update()
	case n < 46:
		return g.mergePatch()
	case n < 56:
		return g.jsonPatch()
	case n < 72:
		return g.apply()
	case n < 79:
		return g.delete()
	case n < 81:
		return g.deleteCollection()
	case n < 86:
		return g.release()
	case n < 89:
		return g.get()
	case n < 94:
		return g.list()
	case n < 98:
		return g.watch()
	default:
		return g.refused()
	}
}

func (g *generator) namespace() int      { return usually(g, 12, 0, 1) }
func (g *generator) name() string        { return pick(g, names...) }
func (g *generator) subresource() string { return pick(g, "", "", "status") }

func (g *generator) manager() string {
	return usually(g, 25, pick(g, "", "one", "two", "three"), strings.Repeat("x", 129), "new\nline")
}

func (g *generator) dryRun() []string {
	return usually(g, 10, nil, []string{metav1.DryRunAll}, []string{metav1.DryRunAll}, []string{"Some"})
}

func (g *generator) fieldValidation() string {
	return usually(g, 6, "", metav1.FieldValidationStrict, metav1.FieldValidationWarn, metav1.FieldValidationIgnore, "Other")
}

// either returns the dry run of a step or, if that is none, of the check before the step.
func either(dryRun, check []string) []string {
	if check != nil && len(dryRun) == 0 {
		return check
	}
	return dryRun
}

func (g *generator) create() step {
	namespace, name, edits := g.namespace(), usually(g, 30, g.name(), "Bad_Name", ""), g.edits(true)
	options := metav1.CreateOptions{DryRun: g.dryRun(), FieldManager: g.manager(), FieldValidation: g.fieldValidation()}
	prefix := usually(g, 12, "", "made-", strings.Repeat("long-", 20))
	if prefix != "" {
		name, options.DryRun = "", []string{metav1.DryRunAll} // the two servers would generate different names
	}
	return step{
		dryRun: len(options.DryRun) > 0,
		name:   fmt.Sprintf("create %s %q %+v %s", name, prefix, options, edits),
		write: func(ctx context.Context, s *side, check []string) (*v1alpha1.DataPlane, error) {
			dp := g.kind.New(name)
			dp.GenerateName = prefix
			edits.apply(s, dp)
			options := options
			options.DryRun = either(options.DryRun, check)
			return s.client(namespace).Create(ctx, dp, options)
		},
	}
}

func (g *generator) update() step {
	namespace, index, fresh, edits, subresource := g.namespace(), g.Int(), !g.oneIn(4), g.edits(false), g.subresource()
	options := metav1.UpdateOptions{DryRun: g.dryRun(), FieldManager: g.manager(), FieldValidation: g.fieldValidation()}
	return step{
		dryRun: len(options.DryRun) > 0,
		name:   fmt.Sprintf("update %s, fresh %t %+v %s", subresource, fresh, options, edits),
		write: func(ctx context.Context, s *side, check []string) (*v1alpha1.DataPlane, error) {
			dp := s.object(index)
			if current, err := s.client(namespace).Get(ctx, dp.Name, metav1.GetOptions{}); err == nil && fresh {
				dp = current
			}
			edits.apply(s, dp)
			options := options
			options.DryRun = either(options.DryRun, check)
			if subresource == "status" {
				return s.client(namespace).UpdateStatus(ctx, dp, options)
			}
			return s.client(namespace).Update(ctx, dp, options)
		},
	}
}

func (g *generator) deleteOptions() func(*side) metav1.DeleteOptions {
	index, dryRun := g.Int(), g.dryRun()
	policy := usually(g, 3, "", metav1.DeletePropagationForeground, metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan, "Other")
	orphan := usually(g, 8, nil, new(bool), ptr(true))
	grace := usually(g, 8, nil, ptr[int64](0), ptr[int64](5), ptr[int64](-1))
	precondition := usually(g, 4, "", "uid", "version", "wrong uid", "wrong version")
	return func(s *side) metav1.DeleteOptions {
		options := metav1.DeleteOptions{DryRun: dryRun, GracePeriodSeconds: grace}
		options.OrphanDependents = orphan //nolint:staticcheck // API servers still take it
		if policy != "" {
			options.PropagationPolicy = &policy
		}
		dp := s.object(index)
		switch precondition {
		case "uid":
			options.Preconditions = &metav1.Preconditions{UID: &dp.UID}
		case "version":
			options.Preconditions = &metav1.Preconditions{ResourceVersion: &dp.ResourceVersion}
		case "wrong uid":
			options.Preconditions = metav1.NewUIDPreconditions("wrong")
		case "wrong version":
			options.Preconditions = metav1.NewRVDeletionPrecondition("1").Preconditions
		}
		return options
	}
}

func (g *generator) delete() step {
	namespace, name, index, options := g.namespace(), g.name(), g.Int(), g.deleteOptions()
	remembered := g.oneIn(2)
	return step{
		name: fmt.Sprintf("delete %s %+v", name, options(&side{})),
		read: func(ctx context.Context, s *side) outcome {
			name := name
			if dp := s.object(index); remembered && dp.Name != "" {
				name = dp.Name
			}
			return failure(s.client(namespace).Delete(ctx, name, options(s)))
		},
	}
}

func (g *generator) deleteCollection() step {
	namespace, options, listOptions := g.namespace(), g.deleteOptions(), g.listOptions()
	return step{
		name: fmt.Sprintf("delete collection %+v %+v", options(&side{}), listOptions),
		read: func(ctx context.Context, s *side) outcome {
			return failure(s.client(namespace).DeleteCollection(ctx, options(s), listOptions))
		},
	}
}

// release removes the finalizers of an object, so that deletions end.
func (g *generator) release() step { return release(g.namespace(), g.name()) }

func release(namespace int, name string) step {
	return step{
		name: "release " + name,
		write: func(ctx context.Context, s *side, check []string) (*v1alpha1.DataPlane, error) {
			return s.client(namespace).Patch(ctx, name, types.MergePatchType,
				[]byte(`{"metadata": {"finalizers": null}}`), metav1.PatchOptions{DryRun: check})
		},
	}
}

// endSteps replace all objects in the first namespace by new ones that all watches select.
func (g *generator) endSteps() (steps []step) {
	for _, name := range names {
		steps = append(steps, release(0, name), step{
			name: "delete " + name + " at the end",
			read: func(ctx context.Context, s *side) outcome {
				return failure(s.client(0).Delete(ctx, name, metav1.DeleteOptions{}))
			},
		}, step{
			name: "create " + name + " at the end",
			write: func(ctx context.Context, s *side, check []string) (*v1alpha1.DataPlane, error) {
				dp := g.kind.New(name)
				dp.Labels = map[string]string{"tier": "gold", "zone": "a"}
				dp.Annotations = map[string]string{endMark: "true"}
				return s.client(0).Create(ctx, dp, metav1.CreateOptions{DryRun: check})
			},
		})
	}
	return steps
}

func ptr[T any](value T) *T { return &value }
