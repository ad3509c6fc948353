// Command crd checks the WsCluster definition with an API server's own code, and what such a server makes of a table of
// objects: strict decoding, pruning, defaulting, schema, CEL with its cost limits.
//
//	crd DEFINITION CASES MANIFEST…
//	crd URL CASES MANIFEST…
//
// With a URL it is a running API server that says what it makes of them: URL is that of a `kubectl proxy`.
// CASES is operator/api/tests/cases.yaml; a case marked `here` must be accepted, since only our own validation can refuse it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apiservervalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

type object = map[string]any

// judge says what becomes of an object on creation.
type judge interface{ admit(object) error }

// server holds what an API server derives from a definition.
type server struct {
	schema    *structuralschema.Structural
	validator apiservervalidation.SchemaValidator
	cel       *cel.Validator
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: crd {DEFINITION|URL} CASES MANIFEST...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(definition, cases string, manifests []string) error {
	var server judge
	var err error
	if strings.HasPrefix(definition, "http://") {
		server = &remote{url: strings.TrimSuffix(definition, "/")}
	} else if server, err = installed(definition); err != nil {
		return fmt.Errorf("%s: %w", definition, err)
	}
	for _, path := range manifests {
		manifest, err := read(path)
		if err != nil {
			return err
		}
		if err := server.admit(manifest); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	table, err := read(cases)
	if err != nil {
		return err
	}
	var wrong error
	all, _ := table["cases"].([]any)
	for _, entry := range all {
		c := entry.(object)
		merged := runtime.DeepCopyJSON(table["base"].(object))
		merge(merged["spec"].(object), c["spec"].(object))
		err := server.admit(merged)
		if errors.As(err, &unreachable{}) {
			return fmt.Errorf("case %q: %w", c["name"], err)
		}
		fields, _ := c["refused"].([]any)
		if refuse := len(fields) > 0 && c["here"] != true; refuse != (err != nil) {
			wrong = errors.Join(wrong, fmt.Errorf("case %q: refused should be %v, the answer is: %v", c["name"], refuse, err))
		}
	}
	if len(all) == 0 {
		return fmt.Errorf("%s: no cases", cases)
	}
	if wrong == nil {
		fmt.Printf("definition, %d manifests and %d cases: as an API server sees them\n", len(manifests), len(all))
	}
	return wrong
}

// installed does what happens on `kubectl apply -f DEFINITION`.
func installed(path string) (*server, error) {
	var external v1.CustomResourceDefinition
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalStrict(raw, &external); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	install.Install(scheme)
	v1.SetDefaults_CustomResourceDefinition(&external)
	v1.SetDefaults_CustomResourceDefinitionSpec(&external.Spec)
	external.Status.StoredVersions = []string{external.Spec.Versions[0].Name}
	var crd apiextensions.CustomResourceDefinition
	if err := scheme.Convert(&external, &crd, nil); err != nil {
		return nil, err
	}
	if errs := validation.ValidateCustomResourceDefinition(context.Background(), &crd); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	schema := crd.Spec.Validation
	if schema == nil {
		schema = crd.Spec.Versions[0].Schema
	}
	structural, err := structuralschema.NewStructural(schema.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	validator, _, err := apiservervalidation.NewSchemaValidator(schema.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	return &server{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}, nil
}

// admit does what happens on creation with strict field validation, as kubectl asks for; it fills defaults into o.
func (s *server) admit(o object) error {
	track := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	if unknown := pruning.PruneWithOptions(o, s.schema, true, track); len(unknown) > 0 {
		return fmt.Errorf("unknown fields %v", unknown)
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(o, s.schema)
	defaulting.Default(o, s.schema)
	if errs := apiservervalidation.ValidateCustomResource(nil, o, s.validator); len(errs) > 0 {
		return errs.ToAggregate()
	}
	errs, _ := s.cel.Validate(context.Background(), nil, s.schema, o, nil, celconfig.RuntimeCELCostBudget)
	return errs.ToAggregate()
}

// read keeps whole numbers whole, as an API server does.
func read(path string) (object, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	raw, err = yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var o object
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// merge applies a patch as RFC 7386 says, except that it leaves a null in place: nulls are the server's to prune.
func merge(into, patch object) {
	for name, value := range patch {
		child, isObject := value.(object)
		inner, hasObject := into[name].(object)
		if isObject && hasObject {
			merge(inner, child)
		} else {
			into[name] = value
		}
	}
}
