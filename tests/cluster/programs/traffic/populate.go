package main

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// populate fills the cluster with namespaces crowd-N that hold pods with addresses, bound to nodes that do not exist, and
// policies that select them. The controller manager must not run: it would clear them away.
func populate(arguments []string) error {
	set := flags("populate")
	state := set.String("state", "", "the cluster's directory")
	pods := set.Int("pods", 0, "how many in all")
	policies := set.Int("policies", 0, "how many in all")
	namespaces := set.Int("namespaces", 50, "how many")
	_ = set.Parse(arguments)
	api, err := open(*state)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := each(*namespaces, func(n int) error {
		name := fmt.Sprintf("crowd-%d", n)
		if err := api.call(http.MethodPost, "/api/v1/namespaces", object{"metadata": object{"name": name, "labels": object{"crowd": fmt.Sprint(n % 10)}}}); err != nil {
			return err
		}
		return api.call(http.MethodPost, "/api/v1/namespaces/"+name+"/serviceaccounts", object{"metadata": object{"name": "default"}})
	}); err != nil {
		return err
	}
	if err := each(*pods, func(n int) error {
		path := fmt.Sprintf("/api/v1/namespaces/crowd-%d/pods", n%*namespaces)
		name := fmt.Sprintf("p%d", n)
		if err := api.call(http.MethodPost, path, object{
			"metadata": object{"name": name, "labels": object{"app": fmt.Sprint("a", n/(*namespaces)%20)}},
			"spec": object{"nodeName": fmt.Sprint("ghost-", n%100), "automountServiceAccountToken": false,
				"containers": []object{{"name": "c", "image": "none"}}},
		}); err != nil {
			return err
		}
		address := fmt.Sprintf("10.%d.%d.%d", 128+n/62500, n/250%250, 1+n%250)
		return api.call(http.MethodPatch, path+"/"+name+"/status", object{"status": object{"phase": "Running", "podIP": address,
			"podIPs": []object{{"ip": address}}}})
	}); err != nil {
		return err
	}
	if err := each(*policies, func(n int) error {
		return api.call(http.MethodPost, fmt.Sprintf("/apis/networking.k8s.io/v1/namespaces/crowd-%d/networkpolicies", n%*namespaces), object{
			"metadata": object{"name": fmt.Sprint("policy-", n)},
			"spec": object{"podSelector": object{"matchLabels": object{"app": fmt.Sprint("a", n/(*namespaces)%20)}}, "policyTypes": []string{"Ingress"},
				"ingress": []object{{
					"from": []object{{"namespaceSelector": object{"matchLabels": object{"crowd": fmt.Sprint(n % 10)}},
						"podSelector": object{"matchLabels": object{"app": fmt.Sprint("a", n%20)}}}},
					"ports": []object{{"port": 1000 + n%1000}},
				}}},
		})
	}); err != nil {
		return err
	}
	fmt.Printf("%d namespaces, %d pods, %d policies written in %.0f s\n", *namespaces, *pods, *policies, time.Since(begin).Seconds())
	return nil
}

// each calls f for every number below count, eight at a time, and stops at the first failure.
func each(count int, f func(int) error) error {
	numbers := make(chan int)
	failed := make(chan error, 8)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for number := range numbers {
				if err := f(number); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for number := 0; number < count && err == nil; number++ {
		select {
		case numbers <- number:
		case err = <-failed:
		}
	}
	close(numbers)
	workers.Wait()
	if err == nil && len(failed) > 0 {
		err = <-failed
	}
	return err
}
