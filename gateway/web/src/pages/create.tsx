// A new workspace: its name and what the template asks for.
//
// SPDX-License-Identifier: MIT
import { useState } from "preact/hooks";
import { Link, useLocation, useParams } from "wouter-preact";
import { type ApiError, api } from "../api";
import { useApi } from "../live";
import { useSession } from "../session";
import type { Template, TemplateParameter, Workspace } from "../types";
import { ErrorBox, Field, Form, Loading, useTitle } from "../ui";

function ParameterInput(props: { parameter: TemplateParameter; value: string; onValue: (value: string) => void; problem?: string }) {
  const { parameter: p, value, onValue, problem } = props;
  const label = (p.display_name || p.name) + (p.required ? "" : " (optional)");
  const id = `parameter-${p.name}`;
  const help = problem ?? (p.description_plaintext || p.description);
  const frame = (control: preact.ComponentChildren) => (
    <div class="field">
      <label for={id}>{label}</label>
      {control}
      <div class={problem ? "help problem" : "help"}>{help}</div>
    </div>
  );
  if (p.options.length > 0 && p.type !== "list(string)")
    return frame(
      <select id={id} value={value} onChange={(e) => onValue(e.currentTarget.value)}>
        {p.options.map((o) => (
          <option key={o.value} value={o.value}>
            {o.name}
          </option>
        ))}
      </select>,
    );
  if (p.type === "bool")
    return frame(<input id={id} type="checkbox" checked={value === "true"} onChange={(e) => onValue(String(e.currentTarget.checked))} />);
  if (p.form_type === "textarea" || p.type === "list(string)")
    return frame(<textarea id={id} rows={4} value={value} onInput={(e) => onValue(e.currentTarget.value)} />);
  return (
    <Field
      label={label}
      name={id}
      type={p.type === "number" ? "number" : "text"}
      min={p.validation_min}
      max={p.validation_max}
      value={value}
      onInput={(e) => onValue(e.currentTarget.value)}
      help={p.description_plaintext || p.description}
      problem={problem}
    />
  );
}

function ParameterForm({ template, parameters }: { template: Template; parameters: TemplateParameter[] }) {
  const session = useSession();
  const [, navigate] = useLocation();
  const [name, setName] = useState("");
  const [values, setValues] = useState<Record<string, string>>(() => Object.fromEntries(parameters.map((p) => [p.name, p.default_value])));
  const create = async () => {
    const workspace = await api.post<Workspace>(`/api/v2/users/me/workspaces`, {
      name,
      template_id: template.id,
      rich_parameter_values: parameters.map((p) => ({ name: p.name, value: values[p.name] ?? "" })),
    });
    navigate(`/@${session.user.username}/${workspace.name}`);
  };
  const problem = (error: ApiError | undefined, field: string) => error?.field(field);
  return (
    <Form action={create} submit="Create workspace" busy="Creating …" extra={<Link href="/templates">Cancel</Link>}>
      {(error) => (
        <>
          <Field label="Name" name="name" autoFocus required value={name} onInput={(e) => setName(e.currentTarget.value)} problem={problem(error, "name")} help="Letters, digits and single hyphens; at most 32." />
          {parameters.map((p) => (
            <ParameterInput key={p.name} parameter={p} value={values[p.name] ?? ""} onValue={(value) => setValues((old) => ({ ...old, [p.name]: value }))} problem={problem(error, p.name)} />
          ))}
        </>
      )}
    </Form>
  );
}

export function CreateWorkspace() {
  const params = useParams<{ organization: string; template: string }>();
  const template = useApi<Template>(`/api/v2/organizations/${params.organization}/templates/${params.template}`);
  const t = template.data;
  const parameters = useApi<TemplateParameter[]>(t && `/api/v2/templateversions/${t.active_version_id}/rich-parameters`);
  useTitle("Create workspace");
  const error = template.error ?? parameters.error;
  if (error) return <ErrorBox error={error} />;
  if (!t || !parameters.data) return <Loading />;
  return (
    <div class="form-page">
      <h1>New workspace from {t.display_name || t.name}</h1>
      <p>{t.description}</p>
      <ParameterForm template={t} parameters={parameters.data} />
    </div>
  );
}
