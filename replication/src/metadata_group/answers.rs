//! Answers to other members' questions.

use openraft::raft::AppendEntriesResponse;

use crate::links::connect::BusConnection;
use crate::wire::body;
use crate::wire::frame::FrameError;
use crate::wire::metadata::{Answer, Question, Request};

use super::group::MetadataGroup;
use super::run::{Run, Written};

/// Answers question after question until the connection ends.
pub async fn serve(group: &MetadataGroup, connection: BusConnection) {
    let BusConnection { peer, mut reader, mut writer } = connection;
    let talk = async {
        while let Some(question) = reader.next().await? {
            let answer = match body::decode::<Request>(&question) {
                Ok(request) => answer(group, request).await,
                Err(error) => Answer::Failed(error.to_string()),
            };
            match body::encode(&answer) {
                Ok(answer) => writer.send(&answer).await?,
                Err(error) => {
                    tracing::error!(%error, "an answer to a member of the metadata group cannot be written");
                    return Ok(());
                }
            }
        }
        Ok::<(), FrameError>(())
    };
    if let Err(error) = talk.await {
        tracing::debug!(%error, %peer, "a connection of the metadata group broke");
    }
}

async fn answer(group: &MetadataGroup, request: Request) -> Answer {
    match group.run() {
        Some(run) if run.cluster == request.cluster => answer_in(&run, request.question).await,
        _ => Answer::OtherCluster,
    }
}

async fn answer_in(run: &Run, question: Question) -> Answer {
    let failed = |error: String| Answer::Failed(error);
    match question {
        Question::Append(request) => {
            let answer = run.raft.append_entries(request).await;
            if answer.as_ref().is_ok_and(|answer| !matches!(answer, AppendEntriesResponse::HigherVote(_))) {
                run.heard.hear();
            }
            answer.map_or_else(|e| failed(e.to_string()), Answer::Append)
        }
        Question::Vote(request) => {
            run.raft.vote(request).await.map_or_else(|e| failed(e.to_string()), Answer::Vote)
        }
        Question::Snapshot(request) => {
            run.heard.hear();
            run.raft.install_snapshot(request).await.map_or_else(|e| failed(e.to_string()), Answer::Snapshot)
        }
        Question::MayStand => {
            Answer::MayStand(!run.heard.leader_lives(&run.raft.metrics().borrow(), run.settings))
        }
        Question::Propose(change) => match run.write(change).await {
            Written::Done(outcome, index) => Answer::Proposed { outcome, index },
            Written::NotLeader => Answer::NotLeader,
            Written::Unknown(why) => failed(why),
        },
    }
}
