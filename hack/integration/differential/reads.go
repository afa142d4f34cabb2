// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	openchoreoapply "github.com/openchoreo/dataplane-sdk-go/applyconfigurations/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/internal/behaviours"
)

func (g *generator) get() step {
	namespace, name := g.namespace(), usually(g, 10, g.name(), "", "a/b", "absent")
	return step{
		name: "get " + name,
		read: func(ctx context.Context, s *side) outcome {
			return s.answer(s.client(namespace).Get(ctx, name, metav1.GetOptions{}))
		},
	}
}

func (g *generator) listOptions() metav1.ListOptions {
	options := metav1.ListOptions{
		LabelSelector: usually(g, 3, "", "tier=gold", "tier in (gold, silver)", "!tier", "tier!=gold,zone", "zone"),
		FieldSelector: usually(g, 4, "", "metadata.name=a", "metadata.name!=b", "metadata.name=absent"),
	}
	if g.oneIn(12) {
		options.LabelSelector = pick(g, "tier in gold", "=", "a=b=c")
	}
	if g.oneIn(12) {
		options.FieldSelector = pick(g, "metadata.name", "spec=x", "metadata.uid=1", "=")
	}
	if g.oneIn(10) {
		options.ResourceVersionMatch = pick(g, metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan, "Other")
	}
	if g.oneIn(20) {
		options.SendInitialEvents = ptr(true)
	}
	return options
}

func (g *generator) list() step {
	namespace, options, everywhere := g.namespace(), g.listOptions(), g.oneIn(6)
	options.ResourceVersion = usually(g, 20, "", "text", "-1")
	return step{
		name: fmt.Sprintf("list %+v, everywhere %t", options, everywhere),
		read: func(ctx context.Context, s *side) outcome {
			if everywhere { // the real server has other namespaces
				options := options
				options.FieldSelector = "metadata.namespace=" + s.Namespaces[namespace]
				return s.list(s.everywhere().List(ctx, options))
			}
			return s.list(s.client(namespace).List(ctx, options))
		},
	}
}

// watch starts a watch, from now or from the resource version of an object. Its selectors select
// one of the objects that end the comparison.
func (g *generator) watch() step {
	last := names[len(names)-1]
	options := metav1.ListOptions{
		LabelSelector:       usually(g, 2, "", "tier=gold", "tier in (gold, silver)", "!absent", "zone"),
		AllowWatchBookmarks: g.oneIn(2),
	}
	if g.oneIn(4) {
		last = g.name()
		options.FieldSelector = "metadata.name=" + last
	}
	if g.oneIn(10) {
		options.LabelSelector = "tier in gold"
	}
	if g.oneIn(4) {
		options.SendInitialEvents = ptr(g.oneIn(2))
		options.ResourceVersionMatch = usually(g, 4, metav1.ResourceVersionMatchNotOlderThan, "", metav1.ResourceVersionMatchExact)
	} else if g.oneIn(10) {
		options.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
	}
	from, index, everywhere := usually(g, 20, pick(g, "", "object"), "text", "-1"), g.Int(), g.oneIn(6)
	if options.SendInitialEvents != nil && *options.SendInitialEvents && from == "object" {
		from = "" // an API server may begin with any state that isn't older
	}
	name := fmt.Sprintf("watch from %s %+v, everywhere %t", from, options, everywhere)
	return step{
		name: name,
		read: func(ctx context.Context, s *side) outcome {
			options, client := options, s.client(0)
			if options.ResourceVersion = from; from == "object" {
				options.ResourceVersion = s.object(index).ResourceVersion
			}
			if everywhere {
				client = s.everywhere()
				options.FieldSelector = "metadata.namespace=" + s.Namespaces[0]
			}
			// A list makes the API server's cache current. Otherwise, a watch from now may begin with
			// an older state.
			if _, err := s.client(0).List(ctx, metav1.ListOptions{}); err != nil {
				return failure(err)
			}
			watcher, err := client.Watch(ctx, options)
			watched := last
			if everywhere {
				watched = names[len(names)-1]
			}
			return s.addWatch(name, watched, watcher, err)
		},
	}
}

// refused returns a step that each server refuses.
func (g *generator) refused() step {
	name := g.name()
	patch := func(kind types.PatchType, subresources ...string) func(context.Context, *side) error {
		return func(ctx context.Context, s *side) error {
			_, err := s.client(0).Patch(ctx, name, kind, []byte(`{}`), metav1.PatchOptions{}, subresources...)
			return err
		}
	}
	requests := map[string]func(context.Context, *side) error{
		"strategic merge patch": patch(types.StrategicMergePatchType),
		"unknown patch":         patch("application/odd"),
		"patch of scale":        patch(types.MergePatchType, "scale"),
		"apply without a name": func(ctx context.Context, s *side) error {
			_, err := s.client(0).Apply(ctx, &openchoreoapply.DataPlaneApplyConfiguration{}, behaviours.ApplyAs("one"))
			return err
		},
		"create without a namespace": func(ctx context.Context, s *side) error {
			_, err := s.everywhere().Create(ctx, &v1alpha1.DataPlane{}, metav1.CreateOptions{})
			return err
		},
	}
	kind := pick(g, "strategic merge patch", "unknown patch", "patch of scale", "apply without a name", "create without a namespace")
	return step{
		name: kind,
		read: func(ctx context.Context, s *side) outcome { return failure(requests[kind](ctx, s)) },
	}
}
