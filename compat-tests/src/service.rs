//! The test service of `docs/conformance.md` on our node.

use aemp::value::Str;
use aemp::{Change, Context, Node, NodeBuilder, PortId, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The function that others spawn.
pub const SERVICE: &str = "Conform::service";

/// Guards by label.
type Guards = Arc<Mutex<HashMap<String, Box<dyn Send>>>>;

/// Lets others spawn [`SERVICE`] on a node.
pub fn register(node: &Node) {
    node.expose(SERVICE, function());
}

/// Like [`register`], for a node before its start: its seeds may spawn the service as soon as they are
/// connected.
pub fn registered(builder: NodeBuilder) -> NodeBuilder {
    builder.expose(SERVICE, function())
}

fn function() -> impl Fn(&Context<'_>, Vec<Value>) -> Result<(), String> + Send + Sync + 'static {
    let runtime = tokio::runtime::Handle::current();
    move |ctx: &Context<'_>, arguments: Vec<Value>| serve(ctx, &arguments, &runtime)
}

fn serve(
    ctx: &Context<'_>,
    arguments: &[Value],
    runtime: &tokio::runtime::Handle,
) -> Result<(), String> {
    let Some((reply, greeting)) = arguments.split_first() else {
        return Err("a service needs to know whom to greet".into());
    };
    let guards = Guards::default();
    ctx.snd(port(reply)?, greeting).map_err(|error| error.to_string())?;
    let keep = guards.clone();
    ctx.on("echo", |ctx: &Context<'_>, elements: Vec<Value>| send(ctx, &elements));
    ctx.on("snd", |ctx: &Context<'_>, elements: Vec<Value>| send(ctx, &elements));
    ctx.on("die", |_: &Context<'_>, _: Vec<Value>| Err::<(), _>("told to die".to_owned()));
    ctx.on("mon", move |ctx: &Context<'_>, (label, of, to): (String, PortId, PortId)| {
        let guard = ctx.node().notify(&of, &to, &(&*label,)).map_err(|error| error.to_string())?;
        keep.lock().unwrap().insert(label, Box::new(guard));
        Ok::<(), String>(())
    });
    for tag in ["unmon", "db_unmon"] {
        let keep = guards.clone();
        ctx.on(tag, move |_: &Context<'_>, (label,): (String,)| {
            keep.lock().unwrap().remove(&label);
        });
    }
    ctx.on("kil", |ctx: &Context<'_>, elements: Vec<Value>| {
        let Some((victim, reason)) = elements.split_first() else {
            return Ok(());
        };
        let text = |index: usize| {
            reason.get(index).and_then(Value::to_str).map(|text| text.to_text_lossy().into_owned())
        };
        let reason = match (text(0), text(1)) {
            (Some(tag), rest) => aemp::KillReason::new(&tag, &rest.unwrap_or_default()),
            _ => aemp::KillReason::normal(),
        };
        ctx.node().kil(port(victim)?, &reason);
        Ok::<(), String>(())
    });
    serve_database(ctx, &guards, runtime);
    Ok(())
}

fn serve_database(ctx: &Context<'_>, guards: &Guards, runtime: &tokio::runtime::Handle) {
    ctx.on("db_set", |ctx: &Context<'_>, (family, key, value): (Str, Str, Value)| {
        ctx.node().db().set(family, key, value).map_err(|error| error.to_string())
    });
    ctx.on("db_del", |ctx: &Context<'_>, words: Vec<Str>| {
        let Some((family, keys)) = words.split_first() else {
            return Ok(());
        };
        let keys: Vec<Str> = keys.to_vec();
        ctx.node().db().delete(family.clone(), keys).map_err(|error| error.to_string())
    });
    let tasks = runtime.clone();
    ctx.on("db_family", move |ctx: &Context<'_>, (family, to): (Str, PortId)| {
        let node = ctx.node().clone();
        tasks.spawn(async move {
            if let Ok(content) = node.db().family::<Value>(family).await {
                let content: aemp::value::Hash = content.into_iter().collect();
                let _ = node.snd(&to, (content,));
            }
        });
    });
    let tasks = runtime.clone();
    ctx.on("db_keys", move |ctx: &Context<'_>, (family, to): (Str, PortId)| {
        let node = ctx.node().clone();
        tasks.spawn(async move {
            if let Ok(keys) = node.db().keys(family).await {
                let _ = node.snd(&to, (keys,));
            }
        });
    });
    let tasks = runtime.clone();
    ctx.on("db_values", move |ctx: &Context<'_>, (family, to): (Str, PortId)| {
        let node = ctx.node().clone();
        tasks.spawn(async move {
            if let Ok(values) = node.db().values::<Value>(family).await {
                let _ = node.snd(&to, (values,));
            }
        });
    });
    let (keep, tasks) = (guards.clone(), runtime.clone());
    ctx.on("db_mon", move |ctx: &Context<'_>, (label, family, to): (String, Str, PortId)| {
        let node = ctx.node().clone();
        let mut changes = node.db().monitor(family);
        let name = label.clone();
        let task = tasks.spawn(async move {
            let mut content = aemp::value::Hash::new();
            while let Some(change) = changes.next().await {
                let report = report(&mut content, &change);
                if node.snd(&to, (&*name, &content, report.0, report.1, report.2)).is_err() {
                    break;
                }
            }
        });
        keep.lock().unwrap().insert(label, Box::new(AbortOnDrop(task)));
    });
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Maintains the family's content and the changed keys, as Perl's `db_mon` reports them.
fn report(content: &mut aemp::value::Hash, change: &Change) -> (Vec<Str>, Vec<Str>, Vec<Str>) {
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for (key, value) in change.added() {
        content.insert(key.clone(), value);
        added.push(key.clone());
    }
    for (key, value) in change.changed() {
        content.insert(key.clone(), value);
        changed.push(key.clone());
    }
    let deleted: Vec<Str> = change.deleted().cloned().collect();
    for key in &deleted {
        content.remove(key);
    }
    (added, changed, deleted)
}

fn send(ctx: &Context<'_>, elements: &[Value]) -> Result<(), String> {
    match elements.split_first() {
        Some((to, elements)) => ctx.snd(port(to)?, elements).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

fn port(id: &Value) -> Result<PortId, String> {
    let id = id.to_str().ok_or("no port ID")?.into_owned();
    PortId::parse(id).map_err(|error| error.to_string())
}
