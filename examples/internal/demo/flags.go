// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"flag"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// Flags are those that every example takes. They mean what they mean to kubectl, except
// that without --kubeconfig and --context an example touches no cluster of the user's.
type Flags struct{ kubeconfig, context, namespace string }

// Register adds the flags to fs.
func (f *Flags) Register(fs *flag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file` of an existing management cluster (default: start one)")
	fs.StringVar(&f.context, "context", "", "`name` of a context in the kubeconfig, which is kubectl's own unless --kubeconfig is given")
	fs.StringVar(&f.namespace, "namespace", "", "`name` of the namespace of DataPlanes (default: that of the context, or \"default\")")
}

// Existing reports whether a cluster of the user's was named.
func (f *Flags) Existing() bool { return f.kubeconfig != "" || f.context != "" }

// Namespace returns the namespace that was named, or else that of the context, or else
// "default".
func (f *Flags) Namespace() string {
	if f.namespace != "" {
		return f.namespace
	}
	if f.Existing() {
		// Of a kubeconfig that can't be read, Start says so.
		if namespace, _, err := f.clientConfig().Namespace(); err == nil {
			return namespace
		}
	}
	return metav1.NamespaceDefault
}

func (f *Flags) clientConfig() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context})
}
