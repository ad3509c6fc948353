package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"
)

// remote asks a running API server that has the definition installed. It goes through `kubectl proxy`, so that any
// kubeconfig will do, and creates nothing: every request is a dry run.
type remote struct {
	url    string
	client http.Client
}

func (r *remote) admit(o object) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	r.client.Timeout = 10 * time.Second
	url := fmt.Sprintf("%s/apis/%s/namespaces/default/wsclusters?dryRun=All&fieldValidation=Strict", r.url, o["apiVersion"])
	answer, err := r.client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return unreachable{err}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return unreachable{err}
	}
	switch answer.StatusCode {
	case http.StatusCreated:
		return nil
	case http.StatusBadRequest, http.StatusUnprocessableEntity: // strict decoding; schema and CEL
		var status metav1.Status
		if err := json.Unmarshal(text, &status); err != nil {
			return unreachable{fmt.Errorf("%s: %w", text, err)}
		}
		return fmt.Errorf("%s", status.Message)
	default:
		return unreachable{fmt.Errorf("%s: %s", answer.Status, text)}
	}
}

// unreachable is an answer about the server instead of the object: it is no verdict.
type unreachable struct{ error }
