//! The builder asks every five seconds whether the session lives, and ends the build after two
//! answers that fail to come.

use super::Attachable;
use crate::proto::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse,
    health_check_response::ServingStatus,
    health_server::{self, HealthServer},
};
use tonic::{Request, Response, Status, service::RoutesBuilder};

/// Answers that we serve. The one service that every session has.
#[derive(Debug)]
pub(super) struct Health;

impl Attachable for Health {
    fn methods(&self) -> &'static [&'static str] {
        &["/grpc.health.v1.Health/Check"]
    }

    fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
        routes.add_service(HealthServer::new(*self));
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        // The empty name asks for the server as a whole; nobody asks for anything else.
        if request.get_ref().service.is_empty() {
            return Ok(Response::new(HealthCheckResponse {
                status: ServingStatus::Serving.into(),
            }));
        }
        Err(Status::not_found("unknown service"))
    }
}
