//! The OpenAPI 3.1 document, generated from the table of operations.

use crate::{
    routes::{Answer, Form, Parameter, Place, ROUTES, Route, Takes},
    server::content::CLOUD_EVENT,
    types::{PROBLEM_JSON, Problem, ProblemKind, Role},
};
use std::collections::BTreeMap;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ComponentsBuilder, ContentBuilder, HttpMethod, InfoBuilder, LicenseBuilder,
        ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
        Schema, SecurityRequirement,
        header::HeaderBuilder,
        path::{
            Operation, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
        },
        request_body::{RequestBody, RequestBodyBuilder},
        response::ResponsesBuilder,
        schema::{KnownFormat, SchemaFormat, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

const BEARER: &str = "bearer";
const CERTIFICATE: &str = "certificate";

/// The document as JSON text, as it is checked in and served.
///
/// # Errors
/// If it cannot be serialised, which no input can cause.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(&document())?;
    text.push('\n');
    Ok(text)
}

fn document() -> OpenApi {
    let mut items: BTreeMap<&str, PathItem> = BTreeMap::new();
    for route in ROUTES.iter() {
        let item = items.entry(route.path).or_default();
        item.merge_operations(PathItem::new(method(route), operation(route)));
    }
    let paths = items
        .into_iter()
        .fold(PathsBuilder::new(), |paths, (path, item)| {
            paths.path(path, item)
        });
    OpenApiBuilder::new()
        .info(info())
        .paths(paths)
        .components(Some(components()))
        .build()
}

fn info() -> utoipa::openapi::Info {
    let about = "What a host of the fabric can be asked. HTTPS only. A caller's role comes with a bearer token or a \
        client certificate: reader, publisher, operator; each may do what those before it may. Errors are problem \
        details (RFC 9457), whose `next` says what to do. Unknown fields and parameters are refused.";
    InfoBuilder::new()
        .title("Bletchley host")
        .version("1")
        .description(Some(about))
        .license(Some(
            LicenseBuilder::new()
                .name("Apache-2.0")
                .identifier(Some("Apache-2.0"))
                .build(),
        ))
        .build()
}

fn method(route: &Route) -> HttpMethod {
    match route.method.as_str() {
        "POST" => HttpMethod::Post,
        "PUT" => HttpMethod::Put,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}

fn operation(route: &Route) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(route.id))
        .summary(Some(route.about))
        .responses(responses(route));
    for each in route.parameters {
        operation = operation.parameter(parameter(each));
    }
    if let Some((takes, _)) = &route.body {
        operation = operation.request_body(Some(request_body(takes)));
    }
    let role = route.role.map(Role::as_str);
    match role {
        Some(role) => {
            operation = operation.description(Some(format!("Least role: {role}.")));
            for scheme in [BEARER, CERTIFICATE] {
                operation = operation.security(SecurityRequirement::new(scheme, [role]));
            }
        }
        None => operation = operation.description(Some("Open to anybody.")),
    }
    operation.build()
}

fn request_body(takes: &Takes) -> RequestBody {
    let body = RequestBodyBuilder::new().required(Some(Required::True));
    match takes {
        Takes::Json(form) => {
            let content = ContentBuilder::new().schema(Some(reference(form))).build();
            body.content("application/json", content).build()
        }
        // OpenAPI has no word for any type at all.
        Takes::Message => [CLOUD_EVENT, "application/json", "application/octet-stream"]
            .into_iter()
            .fold(body, |body, media_type| {
                body.content(media_type, ContentBuilder::new().build())
            })
            .description(Some(
                "A CloudEvent (1.0, structured), whose type and data are taken; or JSON, whose member type is its kind; or any \
                bytes, of any other media type. At most 64 KiB, of which 16 KiB are data.",
            ))
            .build(),
    }
}

fn parameter(parameter: &Parameter) -> utoipa::openapi::path::Parameter {
    let (place, required) = match parameter.place {
        Place::Path => (ParameterIn::Path, Required::True),
        Place::Query => (ParameterIn::Query, Required::False),
        Place::Header => (ParameterIn::Header, Required::True),
    };
    ParameterBuilder::new()
        .name(parameter.name)
        .parameter_in(place)
        .required(required)
        .description(Some(parameter.about))
        .schema(Some((parameter.schema)()))
        .build()
}

fn reference(form: &Form) -> RefOr<Schema> {
    Ref::from_schema_name((form.name)()).into()
}

fn responses(route: &Route) -> utoipa::openapi::Responses {
    let success = ResponseBuilder::new().description("Done.");
    let success = match &route.answer {
        Answer::Json(form) => success.content(
            "application/json",
            ContentBuilder::new().schema(Some(reference(form))).build(),
        ),
        Answer::Bytes(media_type) => success.content(*media_type, bytes(media_type)),
        Answer::Empty => success,
    };
    let success = success.build();
    let responses = [Some(route.success), route.also]
        .into_iter()
        .flatten()
        .fold(ResponsesBuilder::new(), |responses, status| {
            responses.response(status.to_string(), success.clone())
        });
    problems(route)
        .into_iter()
        .fold(responses, |responses, kind| {
            responses.response(
                kind.status().to_string(),
                Ref::from_response_name(kind.name()),
            )
        })
        .build()
}

/// JSON documents are objects, the rest is bytes, which OpenAPI 3.1 leaves without a schema.
fn bytes(media_type: &str) -> utoipa::openapi::Content {
    if !media_type.ends_with("json") {
        return ContentBuilder::new().build();
    }
    let object = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Object));
    ContentBuilder::new().schema(Some(object)).build()
}

/// Which problems an operation may answer with.
fn problems(route: &Route) -> Vec<ProblemKind> {
    use ProblemKind::{
        Conflict, Forbidden, HeadersTooLarge, Internal, Malformed, MethodNotAllowed, NotFound,
        Refused, TooLarge, TooManyRequests, TooSlow, Unauthenticated, Unavailable,
        UnsupportedMediaType, UriTooLong,
    };
    let mut kinds = vec![
        Malformed,
        MethodNotAllowed,
        UriTooLong,
        HeadersTooLarge,
        Internal,
        Unavailable,
    ];
    if route.role.is_some() {
        kinds.extend([Unauthenticated, Forbidden, TooManyRequests]);
    }
    if matches!(route.body, Some((Takes::Message, _))) {
        kinds.extend([Unauthenticated, TooManyRequests]);
    }
    if route.any_origin {
        kinds.push(TooManyRequests);
    }
    if route.may_miss() {
        kinds.push(NotFound);
    }
    if route.body.is_some() {
        kinds.extend([TooSlow, TooLarge, UnsupportedMediaType]);
    }
    if route.may_refuse || route.parameters.iter().any(|each| each.name == "after") {
        kinds.push(Refused);
    }
    if route.may_refuse {
        kinds.push(Conflict);
    }
    kinds
}

fn components() -> Components {
    let mut found: Vec<(String, RefOr<Schema>)> = Vec::new();
    let mut add = |form: &Form| {
        found.push(((form.name)(), (form.schema)()));
        (form.nested)(&mut found);
    };
    for route in ROUTES.iter() {
        if let Answer::Json(form) = &route.answer {
            add(form);
        }
        if let Some((Takes::Json(form), _)) = &route.body {
            add(form);
        }
    }
    found.push((Problem::name().into_owned(), Problem::schema()));
    Problem::schemas(&mut found);
    let found: BTreeMap<_, _> = found.into_iter().collect();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(found)
        .security_scheme(BEARER, bearer())
        .security_scheme(
            CERTIFICATE,
            SecurityScheme::MutualTls {
                description: Some(
                    "A client certificate of the host's authority, or of one that the operator trusts. Its \
                    role is configured by its SHA-256."
                        .to_owned(),
                ),
                extensions: None,
            },
        );
    ProblemKind::ALL
        .iter()
        .fold(components, |components, kind| {
            components.response(kind.name(), problem_response(*kind))
        })
        .build()
}

fn bearer() -> SecurityScheme {
    SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "32 random bytes in base64url, made by POST /v1/tokens.",
            ))
            .build(),
    )
}

fn problem_response(kind: ProblemKind) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Problem::name())))
        .build();
    let response = ResponseBuilder::new()
        .description(kind.title())
        .content(PROBLEM_JSON, content);
    let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
    let seconds = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)));
    let (name, schema, about) = match kind {
        ProblemKind::TooManyRequests | ProblemKind::Unavailable => {
            ("retry-after", seconds, "Seconds to wait.")
        }
        ProblemKind::Unauthenticated => ("www-authenticate", text, "How to authenticate."),
        ProblemKind::MethodNotAllowed => ("allow", text, "Methods that the path knows."),
        _ => return response.build(),
    };
    let header = HeaderBuilder::new()
        .schema(schema)
        .description(Some(about))
        .build();
    response.header(name, header).build()
}
