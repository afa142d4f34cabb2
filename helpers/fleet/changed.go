// Copyright The OpenChoreo Authors.
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"

	"k8s.io/apimachinery/pkg/types"

	"github.com/openchoreo/dataplane-sdk-go/apis/openchoreo/v1alpha1"
	"github.com/openchoreo/dataplane-sdk-go/helpers/remote"
)

// witness says whether a change of a DataPlane is one of its connection, while there is no run
// whose Cluster says so. It is a Cluster that sends nothing, because only ConfigFor knows which
// fields count, and only a Cluster which of its results are the same.
type witness struct {
	options remote.Options
	cluster *remote.Cluster // nil while none can be made
	rotated bool
}

func newWitness(options remote.Options) *witness {
	w := &witness{options: options}
	w.options.OnRotate = func(types.NamespacedName) { w.rotated = true }
	return w
}

// changed returns whether a run for dp would have other credentials than at the call before, or
// another API server than at the first. Credentials that can't be used are no change; any that
// can are one after those. A panic of the user's WrapTransport is an error, too.
func (w *witness) changed(dp *v1alpha1.DataPlane) (credentials, server bool) {
	w.rotated = false
	made := w.cluster != nil
	err := recovered(func() (err error) {
		if made {
			return w.cluster.Update(dp)
		}
		w.cluster, err = remote.NewCluster(dp, w.options)
		return err
	})
	if !made {
		return err == nil, false
	}
	return w.rotated, errors.Is(err, remote.ErrServerChanged)
}

func (w *witness) close() {
	if w.cluster != nil {
		w.cluster.Abort()
	}
}
