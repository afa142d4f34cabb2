// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"cmp"
	"flag"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Flags are the flags of the demos. They mean the same as in kubectl, except that without
// --kubeconfig and --context a demo touches no cluster of the user.
type Flags struct {
	// All is -A, for all namespaces. A demo that has it registers it.
	All bool

	kubeconfig, context, namespace string
}

// Register adds --kubeconfig and --context to fs.
func (f *Flags) Register(fs *flag.FlagSet) {
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file` of an existing management cluster (default: start one)")
	fs.StringVar(&f.context, "context", "", "`name` of a context in the kubeconfig file (default file: kubectl's)")
}

// RegisterNamespace adds --namespace to fs.
func (f *Flags) RegisterNamespace(fs *flag.FlagSet) {
	fs.StringVar(&f.namespace, "namespace", "", "`name` of the namespace of DataPlanes (default: the namespace of the context, or \"default\")")
}

// Existing reports whether the management cluster is an existing one.
func (f *Flags) Existing() bool { return f.kubeconfig != "" || f.context != "" }

// load returns the configuration and the namespace that kubectl would use with the same flags.
func (f *Flags) load() (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: f.context}
	overrides.Context.Namespace = f.namespace
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, "", err
	}
	namespace, _, err := loader.Namespace()
	return config, cmp.Or(namespace, metav1.NamespaceDefault), err
}
